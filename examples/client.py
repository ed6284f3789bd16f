"""Features of images by a server's REST interface, without TensorFlow: a file to copy.

It needs Python 3.11 and NumPy, and nothing of this package. In a program:

    from client import Client

    client = Client("http://127.0.0.1:8501/v1/models/mnist")
    mean, stddev = client.encode(images)

On the command line, of image files or of one array:

    python client.py http://127.0.0.1:8501/v1/models/mnist images/*.png --output features.npz
    python client.py http://127.0.0.1:8501/v1/models/mnist images.npy --output features.npz
"""

import argparse
import base64
import http.client
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

# The server is busy or away: another attempt may succeed.
TRANSIENT = {408, 429, 502, 503, 504}
# Bytes; a thousand latents of 256 images have a hundredth of it.
LARGEST_ANSWER = 2**28


class EncodingError(Exception):
    """A request failed; the message says why."""


class Client:
    """Asks one model of a server.

    Args:
        url: the model, such as http://127.0.0.1:8501/v1/models/mnist, or one version of it, such as
            http://127.0.0.1:8501/v1/models/mnist/versions/1.
        timeout: seconds until an attempt is given up.
        retries: how often a request is repeated if the server is busy or away.
        batch_size: the number of images in a request.
    """

    def __init__(
        self, url: str, *, timeout: float = 30.0, retries: int = 5, batch_size: int = 256
    ) -> None:
        """Connects to nothing yet."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EncodingError(f"{url!r} is not allowed; give http://HOST:PORT/v1/models/NAME")
        self._address, self._is_tls = (parts.hostname, parts.port), parts.scheme == "https"
        self._path = f"{parts.path.rstrip('/')}:predict"
        self._timeout, self._retries, self._batch_size = timeout, retries, batch_size

    def encode(self, images: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns the parameters of q(z|x) = N(mean, diag(stddev^2)).

        Args:
            images: grey levels, uint8 [n, height, width, channels]; or what the model was trained
                on, float32 [n, ...]; or the bytes of n PNG or JPEG files, a list.

        Returns:
            mean and stddev, float32 [n, latent_dim].

        Raises:
            EncodingError: the server cannot be reached, or refuses the images.
        """
        signature, key = _choose_signature(images)
        answers = []
        for start in range(0, len(images), self._batch_size):
            batch = images[start : start + self._batch_size]
            values = (
                batch.tolist()
                if isinstance(batch, np.ndarray)
                else [{"b64": base64.b64encode(file).decode()} for file in batch]
            )
            body = {"signature_name": signature, "inputs": {key: values}}
            answers.append(_read_features(self._ask(json.dumps(body).encode()), len(batch)))
        mean, stddev = zip(*answers, strict=True)
        return np.concatenate(mean), np.concatenate(stddev)

    def _ask(self, body: bytes) -> bytes:
        """Makes a request, again if the server is busy or away."""
        for attempt in range(self._retries + 1):
            try:
                status, data = self._post(body)
            except (OSError, http.client.HTTPException) as error:
                problem = f"no answer ({error or type(error).__name__})"
            else:
                if status == 200:
                    return data
                problem = f"HTTP {status}: {_read_error(data)}"
                if status not in TRANSIENT:
                    break
            if attempt < self._retries:
                time.sleep(min(0.1 * 2**attempt, 10.0) * random.uniform(0.5, 1.0))
        host, port = self._address
        raise EncodingError(f"{host}:{port}{self._path}: {problem}")

    def _post(self, body: bytes) -> tuple[int, bytes]:
        kind = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
        connection = kind(*self._address, timeout=self._timeout)
        try:
            connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read(LARGEST_ANSWER)
        finally:
            connection.close()


def _choose_signature(images: Any) -> tuple[str, str]:
    """The signature for images of this form, and the name of its input."""
    if isinstance(images, np.ndarray | Sequence) and len(images) == 0:
        raise EncodingError("there are no images")
    if not isinstance(images, np.ndarray):
        if isinstance(images, Sequence) and all(isinstance(file, bytes) for file in images):
            return "encoded_image", "image_bytes"
        raise EncodingError("images are neither an array nor a list of the bytes of files")
    if images.dtype == np.uint8:
        return "uint8", "images"
    if images.dtype.kind == "f" and np.isfinite(images).all():
        return "serving_default", "images"
    raise EncodingError(
        f"images of dtype {images.dtype} are not allowed, or are not finite; give grey levels as "
        "uint8, or the values that the model was trained on as float32"
    )


def _read_features(data: bytes, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The features of an answer, of which there must be as many as images."""
    try:
        outputs = json.loads(data)["outputs"]
        mean, stddev = (np.array(outputs[name], np.float32) for name in ("mean", "stddev"))
    except (ValueError, KeyError, TypeError) as error:
        raise EncodingError(f"the answer is not that of an encoder ({error})") from error
    if len(mean) != count or mean.shape != stddev.shape:
        raise EncodingError(f"the answer has features of {len(mean)} images, not of {count}")
    return mean, stddev


def _read_error(data: bytes) -> str:
    """The server's message, in one line."""
    try:
        text = str(json.loads(data)["error"])
    except (ValueError, KeyError, TypeError):
        text = data.decode(errors="replace")
    return " ".join(text.split())[:500]


def main() -> None:
    """Encodes the images that the command line names."""
    parser = argparse.ArgumentParser(description="Features of images by a server.")
    parser.add_argument("url", help="such as http://127.0.0.1:8501/v1/models/mnist")
    parser.add_argument("images", nargs="+", type=Path, help="PNG and JPEG files, or one .npy file")
    parser.add_argument("--output", type=Path, required=True, help="an .npz file")
    options = parser.parse_args()
    try:
        if options.images[0].suffix == ".npy":
            images: Any = np.load(options.images[0], allow_pickle=False)
            ids: Any = np.arange(len(images))
        else:
            images = [path.read_bytes() for path in options.images]
            ids = [str(path) for path in options.images]
        mean, stddev = Client(options.url).encode(images)
        np.savez(options.output, ids=ids, mean=mean, stddev=stddev)
    except (EncodingError, OSError, ValueError) as error:
        sys.exit(f"Error: {error}")
    print(f"{options.output} has the features of {len(mean)} images.")


if __name__ == "__main__":
    main()
