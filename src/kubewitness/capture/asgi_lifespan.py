"""The pipeline's life, told by the server's: it runs before the application starts, and ends after.

Source: the ASGI specification 3.0, "Lifespan".
"""

import asyncio

from kubewitness.backends.pipeline import Pipeline
from kubewitness.capture.asgi_scope import Application, Call, Message

_ENDS = frozenset(
    ("lifespan.shutdown.complete", "lifespan.shutdown.failed", "lifespan.startup.failed")
)


class Life:
    """Runs a pipeline once, whoever asks first: the server's start, or a request.

    Args:
        pipeline: The pipeline; nothing is done to it if it is None, being somebody else's.
    """

    def __init__(self, pipeline: Pipeline | None) -> None:
        self._pipeline = pipeline
        self._fault: OSError | ExceptionGroup[OSError] | None = None
        self._has_started = pipeline is None

    def start(self) -> None:
        """Run the pipeline, unless that was done.

        Raises:
            OSError: It does not start; there is no second attempt, only the same answer again.
            ExceptionGroup: The same, of several backends.
        """
        if self._has_started or self._pipeline is None:
            return
        if self._fault is not None:
            raise self._fault.with_traceback(None)
        try:
            self._pipeline.run()
        except (OSError, ExceptionGroup) as error:
            self._fault = error
            raise
        self._has_started = True

    async def serve(self, application: Application, call: Call) -> None:
        """Serve a ``lifespan`` scope.

        An application that knows none raises, and the server goes on without; what is pending in
        the pipeline then is delivered when the process ends.
        """
        scope, receive, send = call
        first = await receive()  # lifespan.startup
        try:
            self.start()
        except (OSError, ExceptionGroup) as error:
            message = f"the audit pipeline did not start: {_sentence(error)}"
            await send({"type": "lifespan.startup.failed", "message": message})
            return
        unread = [first]

        async def receive_again() -> Message:
            return unread.pop() if unread else await receive()

        async def end_then_send(message: Message) -> None:
            if message["type"] in _ENDS:
                await self.end()
            await send(message)

        await application(scope, receive_again, end_then_send)

    async def end(self) -> None:
        """Deliver what is pending, and end the pipeline; the event loop goes on meanwhile."""
        if self._pipeline is not None:
            await asyncio.to_thread(self._pipeline.shutdown)


def _sentence(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_sentence(each) for each in error.exceptions)
    return str(error)
