"""A server with the interface of Google Cloud Storage on this machine, for the real clients (`.[dev]` has it)."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SETTINGS = {
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # would ask Google for the kind of the bucket
    "GOOGLE_CLOUD_PROJECT": "test",
    "GCE_METADATA_HOST": "127.0.0.1:1",  # nobody there, which is noticed at once
}


@contextmanager
def bucket_server() -> Iterator[dict[str, str]]:
    """Yields the environment in which clients use the server. It keeps everything in memory, and has no bucket yet."""
    from gcp_storage_emulator.server import create_server

    logging.getLogger("gcp_storage_emulator").setLevel(logging.WARNING)
    server = create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    listener: Any = server._api._httpd  # pyright: ignore[reportPrivateUsage]
    report = listener.handle_error
    # Clients that hang up early are no errors; all others are printed.
    listener.handle_error = lambda *client: isinstance(sys.exception(), ConnectionError) or report(*client)
    url = f"http://127.0.0.1:{listener.server_address[1]}"
    # The first is read by gcsfs, the second by ArrayRecord, the third by tensorstore.
    places = dict.fromkeys(
        ("STORAGE_EMULATOR_HOST", "CLOUD_STORAGE_EMULATOR_ENDPOINT", "TENSORSTORE_GCS_HTTP_URL"), url
    )
    try:
        yield places | SETTINGS
    finally:
        server.stop()
