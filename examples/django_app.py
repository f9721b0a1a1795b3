"""Django, behind a proxy that authenticates: its word counts only if it comes from this machine.

Run ``python examples/django_app.py``, then ``curl -H 'X-Remote-User: al' localhost:8000/things``:
the event in audit.log is al's. Django knows its own users too late for the policy.
"""

from pathlib import Path

import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path

from kubewitness.capture import AuditMiddleware, front_proxy_user
from kubewitness.options import AuditOptions, build_pipeline

FLAGS = [f"--audit-policy-file={Path(__file__).parent}/policy.yaml", "--audit-log-path=audit.log"]

settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="example", ALLOWED_HOSTS=["*"])


async def things(request):
    return JsonResponse({"things": []})


urlpatterns = [path("things", things)]
app = AuditMiddleware(
    get_asgi_application(),
    build_pipeline(AuditOptions.from_arguments(FLAGS)),
    user=front_proxy_user(trusted=["127.0.0.0/8", "::1"]),
)

if __name__ == "__main__":
    uvicorn.run(app, proxy_headers=False)  # the peer's address is the peer's
