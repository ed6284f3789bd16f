"""What the clients of a served encoder share: the endpoint, attempts, and checks of the answers."""

import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self, TypeVar

from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.serving.encoders import (
    Features,
    RejectedImagesError,
    Signature,
    check_features,
    require_signatures,
)

__all__ = ["Endpoint", "ServedEncoder", "TransientError"]

# Seconds before the first retry, which double with each until the largest.
FIRST_DELAY, LARGEST_DELAY = 0.1, 10.0

Result = TypeVar("Result")


class Endpoint(NamedTuple):
    """Where a model is served.

    Attributes:
        scheme: "grpc", "http" or "https".
        address: "host:port".
        model: the model's name.
    """

    scheme: str
    address: str
    model: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads grpc://HOST:PORT/NAME, http://HOST:PORT/NAME or https://HOST:PORT/NAME.

        Raises:
            SMVIError: the text is of another form.
        """
        match = re.fullmatch(
            r"(grpc|https?)://([^/\s]+:(\d{1,5}))/([A-Za-z0-9][A-Za-z0-9_.-]*)/?", text
        )
        # gRPC would take port 65536 + n for n, and send the images to another server.
        if not match or not 1 <= int(match[3]) <= 65535:
            raise SMVIError(
                f"{text!r} is no endpoint; give grpc://HOST:8500/NAME, http://HOST:8501/NAME or "
                "https://HOST:PORT/NAME, with a port from 1 to 65535 and the name of the model."
            )
        return cls(match[1], match[2], match[4])

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}/{self.model}"


class TransientError(Exception):
    """It may go well at the next attempt."""


class ServedEncoder:
    """What gRPC and REST share: the version that is asked, attempts, and checks of the answers.

    Args:
        endpoint: where the model is.
        config: the time limit and the number of retries.
        version: the version to ask; None for the one that the server takes by default or by the
            label.
        label: the label of a version.

    Raises:
        SMVIError: the server does not answer, has no such model or version, or the model is no
            encoder.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        config: FeaturesConfig,
        version: int | None = None,
        label: str | None = None,
    ) -> None:
        """Connects, and asks for the model's signatures and which version answers."""
        self._endpoint, self._config, self._closed = endpoint, config, threading.Event()
        self._connect()
        # All images are encoded by one version, also when the server gets another one meanwhile.
        try:
            self._version, self.signatures = self._attempt(lambda: self._describe(version, label))
            require_signatures(self.signatures, str(endpoint))
        except SMVIError as error:
            self.close()
            if isinstance(error, RejectedImagesError):  # such as for an unknown label
                raise self._not_found(str(error)) from error
            raise
        self.identity: Mapping[str, Any] = {"endpoint": str(endpoint), "version": self._version}

    def encode(self, signature: str, images: Any) -> Features:
        """Returns the features of images; see `tfp_smvi.serving.encoders.Encoder.encode`."""
        how = self.signatures[signature]
        features = self._attempt(lambda: self._predict(signature, how, images))
        return check_features(features, len(images), how.latent_dim, str(self._endpoint))

    def close(self) -> None:
        """Ends waiting and lets the connections go."""
        self._closed.set()

    def _connect(self) -> None:
        """Makes what requests go through; nothing is sent yet."""
        raise NotImplementedError

    def _describe(self, version: int | None, label: str | None) -> tuple[int, dict[str, Signature]]:
        """Returns the version that answers, and the model's signatures."""
        raise NotImplementedError

    def _predict(self, signature: str, how: Signature, images: Any) -> Features:
        """Makes one request."""
        raise NotImplementedError

    def _attempt(self, request: Callable[[], Result]) -> Result:
        """Makes a request until it succeeds, waiting longer each time, by a random share."""
        started = time.monotonic()
        for attempt in range(self._config.retries + 1):
            try:
                return request()
            except TransientError as error:
                reason = error
            delay = min(LARGEST_DELAY, FIRST_DELAY * 2**attempt) * random.uniform(0.5, 1.0)
            if attempt < self._config.retries and self._closed.wait(delay):
                break
        seconds = time.monotonic() - started
        raise SMVIError(
            f"{self._endpoint} does not answer ({plain_reason(reason)}), after {attempt + 1} attempts in "
            f"{seconds:.0f} s; is the server running? A slow one needs a larger --timeout or smaller --batch-size."
        ) from reason

    def _refuse(self, reason: str) -> SMVIError:
        return SMVIError(f"{self._endpoint} refuses: {plain_reason(reason)}.")

    def _not_found(self, reason: str) -> SMVIError:
        return SMVIError(
            f"{self._endpoint} is not there ({plain_reason(reason)}); check the model's name, --version and --label."
        )

    def _no_features(self, reason: object) -> SMVIError:
        return SMVIError(
            f"{self._endpoint} answers, but not with features ({plain_reason(reason)}); is it an export of tfp-smvi?"
        )
