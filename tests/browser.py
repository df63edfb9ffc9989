"""A page in a real Chromium, in a fresh profile, driven over its debugging protocol; without a chromium tests skip."""

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.waiting import wait_for

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
]
FLAGS += ["--remote-debugging-port=0", "--window-size=1600,900", "--disable-background-networking"]


@contextmanager
def browser(profile: Path) -> Iterator[str]:
    """A headless Chromium; the address of its debugging port."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium here")
    words = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = profile / "DevToolsActivePort"
        assert wait_for(lambda: port.exists() and "\n" in port.read_text(), process), "chromium does not start"
        yield f"http://127.0.0.1:{port.read_text().splitlines()[0]}"
    finally:
        process.terminate()
        process.wait()


def look(browser: str, url: str, wanted: str, script: str, picture: Path | None = None, seconds: float = 300.0) -> Any:
    """Open `url`, wait until the JavaScript `wanted` is true, and return the value of `script`; a picture if asked."""
    return asyncio.run(_look(browser, url, wanted, script, picture, seconds))


async def _look(browser: str, url: str, wanted: str, script: str, picture: Path | None, seconds: float) -> Any:
    async with aiohttp.ClientSession() as session:
        async with session.put(f"{browser}/json/new?about:blank") as answer:
            address = (await answer.json())["webSocketDebuggerUrl"]
        async with session.ws_connect(address, max_msg_size=0) as socket:
            numbers = iter(range(1, 10_000))

            async def call(method: str, **parameters: Any) -> dict[str, Any]:
                number = next(numbers)
                await socket.send_json({"id": number, "method": method, "params": parameters})
                while True:
                    message = json.loads((await socket.receive(timeout=seconds)).data)
                    if message.get("id") == number:
                        return dict(message["result"])

            async def value(expression: str) -> Any:
                return (await call("Runtime.evaluate", expression=expression, returnByValue=True))["result"].get(
                    "value"
                )

            await call("Page.navigate", url=url)
            end = time.monotonic() + seconds
            while not await value(f"Boolean({wanted})"):
                if time.monotonic() > end:
                    text = await value("document.body.innerText")
                    raise AssertionError(f"{url} did not show what was waited for, but:\n{text}")
                await asyncio.sleep(0.2)
            if picture is not None:
                await asyncio.sleep(1.0)
                shot = await call("Page.captureScreenshot", format="png")
                picture.write_bytes(base64.b64decode(shot["data"]))
            found = await value(script)
            with suppress(aiohttp.ClientError):
                await call("Page.close")
            return found
