"""The example, whole, against a gateway with a tight limit, which SLUICEGATE_BINARY names."""

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pacer import Pacer, read_limits

HERE = Path(__file__).resolve().parent
BINARY = os.environ.get("SLUICEGATE_BINARY")
COUNT, WORKERS = 1000, 8
POLICY = """
tenant = "demo"
[[keys]]
id = "demo"
secret = "file:demo.secret"
[[allow]]
host = "sample.localhost"
schemes = ["http"]
[limits.key]
requests_per_second = 150
burst = 10
"""


def body(number: int) -> bytes:
    return f"part {number}\n".encode() * (number % 90 + 1)


class Upstream(ThreadingHTTPServer):
    """Serves /parts/0001.txt and so on, and calls `reached` at a request number."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []
        self.halfway = threading.Event()
        self.lying = ""
        threading.Thread(target=self.serve_forever).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if len(self.server.requests) == COUNT // 4:
            self.server.halfway.set()
        data = body(int(self.path[7:11]))
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        if self.path == self.server.lying:
            data = data[:-1] + b"!"
        self.send_response(200)
        for name, value in (
            ("content-type", "text/plain"),
            ("content-length", str(len(data))),
            ("etag", f'"{self.path}"'),
            ("repr-digest", f"sha-256=:{digest}:"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@unittest.skipUnless(BINARY, "SLUICEGATE_BINARY names no gateway")
class Fetch(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.upstream = Upstream()
        self.addCleanup(self.upstream.server_close)
        self.addCleanup(self.upstream.shutdown)
        address = f"127.0.0.1:{self.upstream.server_address[1]}"
        (self.folder / "policy").mkdir()
        (self.folder / "policy" / "demo.toml").write_text(POLICY)
        self.secret = self.folder / "policy" / "demo.secret"
        self.secret.write_bytes(subprocess.run([str(BINARY), "keys", "new"], check=True, capture_output=True).stdout)
        (self.folder / "sluicegate.toml").write_text(
            f'listen = "127.0.0.1:0"\nlog = "json"\n[origin]\nopen = ["{address}"]\n'
            f'[origin.hosts]\n"sample.localhost" = "{address}"\n'
        )
        log = (self.folder / "log").open("wb")
        self.addCleanup(log.close)
        self.gateway = subprocess.Popen([str(BINARY), "serve"], cwd=self.folder, stderr=log)
        self.addCleanup(self.gateway.wait)
        self.addCleanup(self.gateway.terminate)
        self.base = f"http://{self.address()}"

    def address(self) -> str:
        """The log's first line, which the gateway writes when it listens."""
        with (self.folder / "log").open() as log:
            text = ""
            while not text.endswith("\n"):
                self.assertIsNone(self.gateway.poll(), text)
                text += log.readline()
        return str(json.loads(text)["address"])

    def start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, str(HERE / "fetch.py"), str(self.folder / "parts"), "--base", self.base]
        command += ["--secret-file", str(self.secret), "--count", str(COUNT), "--workers", str(WORKERS)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, "no_proxy": "*"})

    def run_it(self, status: int = 0) -> str:
        running = self.start()
        said, complaint = running.communicate()
        self.assertEqual(running.returncode, status, said + complaint)
        return said + complaint

    def statuses(self) -> list[int]:
        lines = (self.folder / "log").read_text().splitlines()
        return [event["status"] for event in map(json.loads, lines) if "status" in event]

    def all_there(self) -> None:
        for number in range(1, COUNT + 1):
            self.assertEqual((self.folder / "parts" / f"{number:04}.txt").read_bytes(), body(number))
        self.assertEqual(len(list((self.folder / "parts").iterdir())), COUNT + 1)
        check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
        subprocess.run(check, cwd=self.folder / "parts", check=True)

    def test_a_thousand_files_below_the_limit(self) -> None:
        said = self.run_it()
        self.all_there()
        statuses = self.statuses()
        self.assertEqual(statuses.count(200), COUNT)
        # At worst each worker has one request under way when the first is refused; after that all of them wait.
        self.assertLessEqual(statuses.count(429), WORKERS)
        self.assertIn(f"{len(statuses)} requests, {statuses.count(429)} refused with 429", said)
        # Another start finds all there, and asks for nothing.
        self.assertIn("1000 files were there, 0 are missing\n0 requests", self.run_it())

    def test_stopped_and_started_again(self) -> None:
        first = self.start()
        self.assertTrue(self.upstream.halfway.wait(60))
        first.send_signal(signal.SIGKILL)
        first.communicate()
        noted = len((self.folder / "parts" / "SHA256SUMS").read_text().splitlines())
        self.assertGreater(noted, COUNT // 8)
        (self.folder / "parts" / "0001.txt").write_bytes(b"changed since")
        said = self.run_it()
        self.all_there()
        found = re.match(r"(\d+) files were there", said)
        assert found
        self.assertGreaterEqual(int(found[1]), noted - 1)
        # Twice is asked for what was under way at the stop, for the changed file, and for no other.
        self.assertLessEqual(len(self.upstream.requests), COUNT + WORKERS + 1)

    def test_a_file_that_is_not_its_digest_stops_it(self) -> None:
        self.upstream.lying = "/parts/0007.txt"
        said = self.run_it(status=1)
        self.assertIn("`0007.txt`: the file's sha-256 is", said)
        self.assertFalse((self.folder / "parts" / "0007.txt").exists())


class Pacing(unittest.TestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.pacer = Pacer(lambda: self.now, self.pause)

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def hear(self, left: int, **options: float) -> None:
        headers = Message()
        headers["ratelimit-policy"] = '"key";q=10;w=1, "tenant";q=100;w=2'
        headers["ratelimit"] = f'"key";r={left};t=1, "tenant";r=99;t=1'
        self.pacer.heard(self.pacer.take(), headers, **options)

    def test_what_the_fields_say(self) -> None:
        self.assertEqual(read_limits('"key";q=200;w=2, "tenant";w=3;q=1'), [{"q": 200, "w": 2}, {"w": 3, "q": 1}])
        self.assertEqual(read_limits(None), [])

    def test_it_slows_down_before_it_is_refused(self) -> None:
        self.hear(left=3)
        for _ in range(3):
            self.pacer.take()
        self.assertEqual(self.now, 0)
        self.pacer.take()
        self.assertAlmostEqual(self.now, 0.1, delta=0.01)

    def test_a_refusal_closes_the_way_for_all(self) -> None:
        self.hear(left=9, retry_after=4.0)
        self.pacer.take()
        self.assertAlmostEqual(self.now, 4, delta=0.06)

    def test_no_answer_stops_it_for_ever(self) -> None:
        headers = Message()
        headers["ratelimit-policy"], headers["ratelimit"] = '"key";q=1;w=999999999', '"key";r=0;t=999999999'
        self.pacer = Pacer(lambda: self.now, self.minute)
        self.pacer.heard(self.pacer.take(), headers, retry_after=1e9)
        self.pacer.take()
        self.assertLess(self.now, 600)

    def minute(self, _: float) -> None:
        self.now += 30
        self.assertLess(self.now, 3600)

    def test_an_answer_that_comes_late_promises_nothing(self) -> None:
        self.hear(left=9)
        late = self.pacer.take()
        for _ in range(8):
            self.hear(left=0)
        headers = Message()
        headers["ratelimit"] = '"key";r=8;t=1'
        before = self.now
        self.pacer.heard(late, headers)
        self.pacer.take()
        self.assertGreater(self.now - before, 0.05)


if __name__ == "__main__":
    unittest.main()
