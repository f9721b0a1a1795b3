"""The rate limit of batches: a token bucket, as client-go's ``flowcontrol`` has it.

Source: audit specification section 7; upstream client-go ``util/flowcontrol/throttle.go``.
"""


class TokenBucket:
    """Gives out tokens at an average rate, and a number of them at once after a quiet time.

    Args:
        rate: Tokens a second; more than 0.
        burst: Tokens that the full bucket holds; it starts full.
        now: The time, in seconds of any clock; the same clock's times are given to `reserve`.
    """

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def reserve(self, now: float) -> float:
        """Take a token, and return the seconds to wait before using it: mostly 0."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1
        self._at = now
        return max(0.0, -self._tokens / self._rate)
