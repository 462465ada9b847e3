"""What a browser records with `MediaRecorder` is understood as it comes, the way Deepgram's starters send it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from ..conftest import SAMPLE_TEXTS, running_engine
from .browsing import opened, serving_in_thread

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RECORD = """async ([url, type]) => {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const socket = new WebSocket(url);
    await new Promise((resolve) => (socket.onopen = resolve));
    const recorder = new MediaRecorder(stream, { mimeType: type });
    recorder.ondataavailable = ({ data }) => data.size && socket.send(data);
    recorder.start(1);  // as often as it can: its first message is one byte then
    return await new Promise((resolve, reject) => {
        socket.onclose = ({ code, reason }) => reject(new Error(`${code} ${reason}`));
        socket.onmessage = ({ data }) => {
            const transcript = JSON.parse(data).channel?.alternatives?.[0].transcript;
            if (transcript) {
                socket.onclose = null;
                recorder.stop();
                socket.close();
                resolve(transcript);
            }
        };
    });
}"""


@pytest.mark.parametrize("kind", ["audio/webm;codecs=opus", "audio/mp4;codecs=opus"])
def test_the_first_sentence_of_a_recorder(browser: Browser, kind: str) -> None:
    with running_engine() as engine, serving_in_thread(engine) as url, opened(browser, f"{url}/") as page:
        address = f"{url.replace('http', 'ws')}/v1/listen?punctuate=true"
        assert page.evaluate(RECORD, [address, kind]) == SAMPLE_TEXTS[0]
