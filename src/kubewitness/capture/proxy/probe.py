"""Does the API server believe what the proxy says of its clients? Asked before it is relied on.

With ``--forward-identity=front-proxy`` everything hangs on the API server taking the proxy's
certificate for that of a front proxy. If it does not, it ignores ``X-Remote-*``, and would do as
the proxy itself what is recorded as somebody else's.
"""

import logging

from kubewitness.capture.proxy.config import Forwarding
from kubewitness.capture.proxy.forwarding import identifying_headers
from kubewitness.capture.proxy.memory import Memory
from kubewitness.capture.proxy.upstream import SELF_REVIEWS, Upstream, UpstreamError
from kubewitness.event import UserInfo

_NOBODY = UserInfo(username="kubewitness:front-proxy-probe")
_REMEMBERED = 60.0
_log = logging.getLogger("kubewitness.proxy")


class FrontProxyProbe:
    """Asks the API server who it takes a user for that the proxy names; remembers it for a minute.

    Args:
        upstream: The API server.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._known: Memory[bool] = Memory(lambda _: _REMEMBERED)
        self._has_warned = False

    async def check(self) -> None:
        """Return if the proxy is believed.

        Raises:
            UpstreamError: It is not, or that cannot be found out.
        """
        await self._known.get(b"", self._ask)

    async def _ask(self) -> bool:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        named = identifying_headers(_NOBODY, Forwarding.FRONT_PROXY)
        code, answer = await self._upstream.review(SELF_REVIEWS, review, headers=named)
        if code == 404:
            self._warn()
            return True
        status = answer.get("status")
        user = status.get("userInfo") if isinstance(status, dict) else None
        name = user.get("username") if isinstance(user, dict) else None
        if code != 201 or name != _NOBODY.username:
            taken = f"takes {_NOBODY.username} for {name}" if code == 201 else f"answers {code}"
            raise UpstreamError(f"it does not believe the proxy's X-Remote-User: it {taken}")
        return True

    def _warn(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "the API server has no SelfSubjectReview (before Kubernetes 1.28), so whether it "
                "believes the proxy's X-Remote-* headers is not known"
            )
