"""The common base of the clients of a served encoder: endpoint, retries, checks of the answers."""

import math
import random
import re
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Self, TypeVar

import numpy as np

from tfp_smvi.config import FeaturesConfig
from tfp_smvi.core.errors import SMVIError, plain_reason
from tfp_smvi.engines.recipes import Recipe
from tfp_smvi.serving.encoders import (
    Features,
    Identity,
    Images,
    RejectedImagesError,
    Signature,
    check_features,
    require_signatures,
)

__all__ = ["Endpoint", "ServedEncoder", "TooLargeError", "TransientError", "is_too_large"]

# Seconds before the first retry, which double with each until the largest.
FIRST_DELAY, LARGEST_DELAY = 0.1, 10.0

# What gRPC's libraries, proxies (with the status of HTTP in it) and TF Serving's batching say.
_TOO_LARGE = re.compile(r"larger than max|exceeds maximum|status: 413", re.IGNORECASE)

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
        # gRPC would take port 65536 + n for n, and send the examples to another server.
        if not match or not 1 <= int(match[3]) <= 65535:
            raise SMVIError(
                "is not allowed",
                field="endpoint",
                value=text,
                remedy="give grpc://HOST:8500/NAME, http://HOST:8501/NAME or "
                "https://HOST:PORT/NAME, with a port from 1 to 65535 and the name of the model",
            )
        return cls(match[1], match[2], match[4])

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return f"{self.scheme}://{self.address}/{self.model}"


class TransientError(Exception):
    """A request failed for a reason that may pass, so that it is worth another attempt."""


class TooLargeError(Exception):
    """A request is larger than the server or a proxy takes, so that a smaller one may succeed."""


def is_too_large(reason: str) -> bool:
    """Whether a server's reason for a refusal is the size of the request."""
    return _TOO_LARGE.search(reason) is not None


class ServedEncoder:
    """The common base of gRPC and REST: one fixed version, retries, checks of the answers.

    Args:
        endpoint: where the model is.
        config: the time limit and the number of retries.
        version: the version; None for the one that the label names, or the server's default.
        label: the label of a version.

    Raises:
        SMVIError: the server does not answer, has no such model or version, or the model is not an
            encoder.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        config: FeaturesConfig,
        version: int | None = None,
        label: str | None = None,
    ) -> None:
        """Connects, and requests the version and the signatures of the model."""
        self._endpoint, self._config, self._closed = endpoint, config, threading.Event()
        # The most examples in a request that was not too large; several threads may lower it.
        self._most_images: float = math.inf
        self._connect()
        # One version encodes all examples, even if the server loads a newer one in the meantime.
        try:
            self._version, self.signatures = self._attempt(lambda: self._describe(version, label))
            require_signatures(self.signatures, str(endpoint))
        except (SMVIError, TooLargeError) as error:
            self.close()
            if isinstance(error, TooLargeError):
                raise self._wrong_answer(error) from error
            if isinstance(error, RejectedImagesError):  # such as for an unknown label
                raise self._not_found(error.problem) from error
            raise
        # A server does not tell its model card.
        self.names: tuple[str, ...] | None = None
        self.identity: Identity = {"endpoint": str(endpoint), "version": self._version}
        self.recipe = Recipe(
            "tfp_smvi.serving.reconnecting:reconnect", {**self.identity, "config": config.to_json()}
        )

    def encode(self, signature: str, images: Images) -> Features:
        """Returns the features of examples; see `tfp_smvi.serving.encoders.Encoder.encode`.

        If a request is too large for the server or a proxy, this one and all later ones are made in
        parts.
        """
        parts: list[Features] = []
        start = 0
        while start < len(images) or not parts:
            count = int(min(len(images) - start, self._most_images))
            try:
                parts.append(self._encode(signature, images[start : start + count]))
            except TooLargeError as error:
                if count <= 1:
                    raise self._too_large(error) from error
                self._most_images = min(self._most_images, count // 2)
            else:
                start += count
        return Features(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _encode(self, signature: str, images: Images) -> Features:
        """Returns the features of examples that fit in one request."""
        how = self.signatures[signature]
        features = self._attempt(lambda: self._predict(signature, how, images))
        return check_features(features, len(images), how.latent_dim, str(self._endpoint))

    def close(self) -> None:
        """Stops waiting for retries and closes the connections."""
        self._closed.set()

    def _connect(self) -> None:
        """Prepares the connections; nothing is sent yet."""
        raise NotImplementedError

    def _describe(self, version: int | None, label: str | None) -> tuple[int, dict[str, Signature]]:
        """Returns the version that answers, and the model's signatures."""
        raise NotImplementedError

    def _predict(self, signature: str, how: Signature, images: Images) -> Features:
        """Makes one request."""
        raise NotImplementedError

    def _attempt(self, request: Callable[[], Result]) -> Result:
        """Makes a request until it succeeds, with waits of random length that double each time."""
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
            f"{self._endpoint} does not answer ({plain_reason(reason)}), after {attempt + 1} "
            f"attempt{'s' * (attempt > 0)} in {seconds:.0f} s",
            remedy="check that the server is running; for a slow one give a larger {timeout} or a "
            "smaller {batch_size}",
        ) from reason

    def _refusal(self, reason: str) -> SMVIError:
        """The error of a server that refuses a request, whatever the examples are."""
        return SMVIError(
            f"{self._endpoint} refuses the request ({plain_reason(reason)})",
            remedy="check the server and its log",
        )

    def _too_large(self, reason: object) -> SMVIError:
        """The error of a server for which a request of one example is too large."""
        return SMVIError(
            f"{self._endpoint} takes no request as large as one example ({plain_reason(reason)})",
            remedy="raise the largest size of a request of the server or of the proxy before it, "
            "such as client_max_body_size of nginx",
        )

    def _not_found(self, reason: str) -> SMVIError:
        """The error of a server that does not have the model or the version."""
        return SMVIError(
            f"{self._endpoint} does not exist ({plain_reason(reason)})",
            remedy="check the name of the model, {version} and {label}",
        )

    def _wrong_answer(self, reason: object) -> SMVIError:
        """The error of a model whose answer is not features."""
        return SMVIError(
            f"{self._endpoint} answers, but not with features ({plain_reason(reason)})",
            remedy="use an export of tfp-smvi",
        )
