"""edge/local: that the local CloudFront does what CloudFront does, in front of an origin that follows a script.

Every test starts the real nginx as the generator configures it from template.yaml or from a changed copy.
"""

import copy
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

from template import ROOT, TEMPLATE, Template, read

sys.path.insert(0, str(ROOT / "edge" / "local"))
import cloudfront  # noqa: E402
import store  # noqa: E402

SECONDS = 60
Fields = list[tuple[str, str]]


class Head:
    """The head of a request or an answer as it was on the wire."""

    def __init__(self, data: bytes) -> None:
        first, *lines = data.decode("latin-1").split("\r\n")
        self.first = first
        self.fields: Fields = []
        for line in lines:
            name, _, value = line.partition(":")
            self.fields.append((name.lower(), value.strip()))

    def all(self, name: str) -> list[str]:
        return [value for one, value in self.fields if one == name]

    def get(self, name: str) -> str | None:
        found = self.all(name)
        return ", ".join(found) if found else None

    @property
    def target(self) -> str:
        return self.first.split(" ")[1]

    @property
    def method(self) -> str:
        return self.first.split(" ")[0]

    @property
    def status(self) -> int:
        return int(self.first.split(" ")[1])


def head_of(connection: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b"", data
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


class Origin:
    """Answers each connection's one request as its script does, and remembers what was asked."""

    def __init__(self, script: Callable[[socket.socket, Head], None]) -> None:
        self.script = script
        self.requests: list[Head] = []
        self.failures: list[BaseException] = []
        self.changed = threading.Condition()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self.serve, args=(connection,))
            self.threads.append(thread)
            thread.start()

    def serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(SECONDS)
            head, _ = head_of(connection)
            if not head:
                return
            request = Head(head)
            with self.changed:
                self.requests.append(request)
                self.changed.notify_all()
            try:
                self.script(connection, request)
            except (BrokenPipeError, ConnectionResetError):
                pass
            except BaseException as error:
                self.failures.append(error)

    def wait(self, count: int) -> None:
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.requests) >= count, SECONDS):
                raise AssertionError(f"{len(self.requests)} of {count} requests came")

    def stop(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(SECONDS)
        if self.failures:
            raise self.failures[0]


class Answer:
    def __init__(self, head: Head, body: bytes, whole: bool) -> None:
        self.head, self.body, self.whole = head, body, whole
        self.status = head.status

    @property
    def cache(self) -> str:
        return (self.head.get("x-cache") or "").removesuffix(" from local cloudfront")

    @property
    def text(self) -> str:
        return self.body.decode()


class Local:
    """A running local CloudFront."""

    def __init__(self, origin: str, template: Template, **more: Any) -> None:
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name).resolve()
        self.store = self.folder / "store"
        self.store.mkdir()
        # The test binds the port and hands the socket over, so there is neither a race for it nor a wait until it
        # listens.
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = listener.getsockname()[1]
        place = {"prefix": "", "viewer_header": None, **more}
        cloudfront.write(
            cloudfront.read(cloudfront.Template(template)),
            cloudfront.Place(
                listen=f"127.0.0.1:{self.port}", origin=origin, folder=self.folder, store=self.store, **place
            ),
        )
        # A pipe in the log's place, so that a test can wait for a line instead of looking again and again.
        os.mkfifo(self.folder / "error.log")
        self.log: list[str] = []
        self.logged = threading.Condition()
        self.pipe = os.open(self.folder / "error.log", os.O_RDWR)
        self.reader = threading.Thread(target=self.read_log)
        self.reader.start()
        with listener:
            self.process = subprocess.Popen(
                [cloudfront.nginx(), "-p", f"{self.folder}/", "-c", "nginx.conf", "-e", "error.log"],
                env={"NGINX": f"{listener.fileno()};"},
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def read_log(self) -> None:
        with os.fdopen(os.dup(self.pipe), encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line == "the end\n":
                    return
                with self.logged:
                    self.log.append(line)
                    self.logged.notify_all()

    def wait_logged(self, words: str, count: int) -> None:
        def found() -> bool:
            return sum(words in line for line in self.log) >= count

        with self.logged:
            if not self.logged.wait_for(found, SECONDS):
                raise AssertionError(f"not {count} times `{words}`:\n{''.join(self.log)}")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), SECONDS)

    def ask(self, target: str = "/?url=a", fields: Fields | None = None, method: str = "GET") -> Answer:
        with self.connect() as client:
            send(client, target, fields, method)
            return receive(client, method)

    def worker_peak(self) -> int:
        """Bytes that the worker ever had in memory at once."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        peaks = [re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{child}/status").read_text()) for child in children]
        return max(int(peak[1]) * 1024 for peak in peaks if peak)

    def kept(self) -> list[Path]:
        return [path for path in (self.folder / "cache").rglob("*") if path.is_file()]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(SECONDS)
        os.write(self.pipe, b"the end\n")
        self.reader.join(SECONDS)
        os.close(self.pipe)
        self.temporary.cleanup()


def send(client: socket.socket, target: str, fields: Fields | None = None, method: str = "GET") -> None:
    lines = [f"{method} {target} HTTP/1.1", "Host: d111111abcdef8.cloudfront.net", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in fields or []]
    client.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))


def receive(client: socket.socket, method: str = "GET") -> Answer:
    head, rest = head_of(client)
    if not head:
        raise AssertionError("no answer at all")
    data = [rest]
    try:
        while piece := client.recv(1 << 16):
            data.append(piece)
    except ConnectionResetError:
        pass
    return answer(Head(head), b"".join(data), method)


def answer(head: Head, data: bytes, method: str) -> Answer:
    if method == "HEAD" or head.status in (204, 304):
        return Answer(head, data, data == b"")
    if head.get("transfer-encoding") == "chunked":
        pieces, at = [], 0
        while (end := data.find(b"\r\n", at)) > 0:
            size = int(data[at:end], 16)
            pieces.append(data[end + 2 : end + 2 + size])
            at = end + 2 + size + 2
            if size == 0:
                return Answer(head, b"".join(pieces), at == len(data))
        return Answer(head, b"".join(pieces), False)
    return Answer(head, data, len(data) == int(head.get("content-length") or -1))


# --- What an origin says


def say(connection: socket.socket, body: bytes = b"", fields: Fields | None = None, status: str = "200 OK") -> None:
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields or [])]
    connection.sendall("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body)


def start_chunks(connection: socket.socket, fields: Fields | None = None) -> None:
    lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in fields or []), "Transfer-Encoding: chunked"]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())


def chunk(connection: socket.socket, data: bytes) -> None:
    connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))


def chunks(connection: socket.socket, body: bytes, fields: Fields | None = None) -> None:
    start_chunks(connection, fields)
    for at in range(0, len(body), 4000):
        chunk(connection, body[at : at + 4000])
    chunk(connection, b"")


KEPT = ("Cache-Control", "max-age=0, s-maxage=600")
WHOLE = b"".join(b"%07d\n" % number for number in range(4000))
LENGTH = ("X-Sluicegate-Length", str(len(WHOLE)))
TAG = ("ETag", '"v1"')

# --- Templates with functions of ours

OURS = read()

AS_IT_CAME = "function handler(event) { return event.request; }"
LOOKS = "function handler(event) { return event.response; }"


def template(request: str | None = AS_IT_CAME, response: str | None = None, **policy: Any) -> Template:
    """The project's template with these functions in place of its own, and these values in its cache policy."""
    made = copy.deepcopy(OURS)
    behaviour = made["Resources"]["Distribution"]["Properties"]["DistributionConfig"]["DefaultCacheBehavior"]
    behaviour["FunctionAssociations"] = []
    for event, code in (("viewer-request", request), ("viewer-response", response)):
        if code is None:
            continue
        name = "Test" + event.title().replace("-", "")
        properties = {"AutoPublish": True, "FunctionConfig": {"Runtime": "cloudfront-js-2.0"}, "FunctionCode": code}
        made["Resources"][name] = {"Type": "AWS::CloudFront::Function", "Properties": properties}
        behaviour["FunctionAssociations"].append(
            {"EventType": event, "FunctionARN": {"Fn::GetAtt": [name, "FunctionARN"]}}
        )
    made["Resources"]["CachePolicy"]["Properties"]["CachePolicyConfig"].update(policy)
    return made


def with_store(made: Template) -> Template:
    config = made["Resources"]["TestViewerRequest"]["Properties"]["FunctionConfig"]
    config["KeyValueStoreAssociations"] = [{"KeyValueStoreARN": "arn"}]
    return made


def distribution(made: Template) -> dict[str, Any]:
    return made["Resources"]["Distribution"]["Properties"]["DistributionConfig"]


class Case(unittest.TestCase):
    def origin(self, script: Callable[[socket.socket, Head], None]) -> Origin:
        origin = Origin(script)
        self.addCleanup(origin.stop)
        return origin

    def local(self, origin: Origin, made: Template | None = None, **more: Any) -> Local:
        local = Local(origin.address, template() if made is None else made, **more)
        self.addCleanup(local.stop)
        return local

    def pair(
        self, script: Callable[[socket.socket, Head], None], made: Template | None = None, **more: Any
    ) -> tuple[Origin, Local]:
        origin = self.origin(script)
        return origin, self.local(origin, made, **more)


def whole(connection: socket.socket, request: Head) -> None:
    """Says the same file to everything, in chunks, and lets it be kept."""
    chunks(connection, b"" if request.method == "HEAD" else WHOLE, [KEPT, LENGTH, TAG])


def fleeting(connection: socket.socket, request: Head) -> None:
    say(connection, b"ok", [("Cache-Control", "no-store")])


class TheRequest(Case):
    """What of a request reaches the function and the origin."""

    def test_reaches_the_origin_byte_for_byte(self) -> None:
        origin, local = self.pair(fleeting)
        targets = [
            "/",
            "/?",
            "/?url=https%3A%2F%2Fa.example%2fb",
            "/?url=a+b;c=%20&&x&=y&url=b",
            "/a%2fb//c/./d?x=%2F&x=%2f",
            "/?%75rl=a&__proto__=1&constructor",
            "/?url=:/?'()*[]|{}^`\"<>\\",
            "/?url=" + "a" * 8000,
        ]
        for target in targets:
            self.assertEqual(local.ask(target).status, 200, target)
        self.assertEqual([request.target for request in origin.requests], targets)

    def test_says_what_cloudfront_says_to_an_origin(self) -> None:
        origin, local = self.pair(fleeting)
        fields = [("X-One", "1"), ("X-Two", "a"), ("x-two", "b"), ("Cookie", "a=1; b=2"), ("User-Agent", "curl/8")]
        local.ask(
            fields=[*fields, ("X-Forwarded-For", "192.0.2.1"), ("Range", "bytes=0-1"), ("X_Odd", "y"), ("X-None", "")]
        )
        (request,) = origin.requests
        self.assertEqual(request.get("host"), origin.address)
        self.assertEqual(request.all("x-two"), ["a", "b"])
        self.assertEqual(request.get("x-forwarded-for"), "192.0.2.1, 127.0.0.1")
        for name, value in [("x-one", "1"), ("cookie", "a=1; b=2"), ("user-agent", "curl/8"), ("range", "bytes=0-1")]:
            self.assertEqual(request.all(name), [value])
        self.assertEqual((request.all("x_odd"), request.all("x-none")), (["y"], [""]))
        self.assertIn("(CloudFront)", request.get("via") or "")
        self.assertRegex(request.get("x-amz-cf-id") or "", "^[0-9a-f]{32}$")
        self.assertIsNone(request.get("connection"))

    def test_signing_overwrites_authorization(self) -> None:
        origin, local = self.pair(fleeting)
        local.ask(fields=[("Authorization", "Basic eDp5")])
        self.assertIsNone(origin.requests[0].get("authorization"))
        made = template()
        made["Resources"]["OriginAccess"]["Properties"]["OriginAccessControlConfig"]["SigningBehavior"] = "never"
        self.local(origin, made).ask(fields=[("Authorization", "Basic eDp5")])
        self.assertEqual(origin.requests[1].get("authorization"), "Basic eDp5")

    def test_is_an_event_of_cloudfront(self) -> None:
        code = (
            "function handler(event) {\n"
            "    event.raw = event.request.rawQueryString();\n"
            "    return { statusCode: 200, body: JSON.stringify(event) };\n"
            "}\n"
        )
        _, local = self.pair(fleeting, template(code))
        answer = local.ask(
            "/a?x=%2F&y&x=2&__proto__=p",
            [("X-One", "1"), ("X-Two", "a"), ("x-two", "b"), ("Cookie", "a=1; b=2=3"), ("X-Edge-Location", "x")],
        )
        event = json.loads(answer.body)
        self.assertEqual(event["version"], "1.0")
        self.assertEqual(event["viewer"], {"ip": "127.0.0.1"})
        self.assertEqual(event["context"]["eventType"], "viewer-request")
        self.assertRegex(event["context"]["requestId"], "^[0-9a-f]{32}$")
        self.assertEqual(event["raw"], "x=%2F&y&x=2&__proto__=p")
        request = event["request"]
        self.assertEqual((request["method"], request["uri"]), ("GET", "/a"))
        self.assertEqual(
            request["querystring"],
            {
                "x": {"value": "%2F", "multiValue": [{"value": "%2F"}, {"value": "2"}]},
                "y": {"value": ""},
                "__proto__": {"value": "p"},
            },
        )
        self.assertEqual(
            request["headers"],
            {
                "host": {"value": "d111111abcdef8.cloudfront.net"},
                "x-one": {"value": "1"},
                "x-two": {"value": "a", "multiValue": [{"value": "a"}, {"value": "b"}]},
            },
        )
        self.assertEqual(request["cookies"], {"a": {"value": "1"}, "b": {"value": "2=3"}})
        self.assertEqual(answer.cache, "FunctionGeneratedResponse")

    def test_goes_on_as_the_function_returned_it(self) -> None:
        code = (
            "function handler(event) {\n"
            "    var request = event.request;\n"
            "    delete request.headers['x-gone'];\n"
            "    request.headers['x-set'] = { value: 'new' };\n"
            "    request.headers['x-many'] = { value: '1', multiValue: [{ value: '1' }, { value: '2' }] };\n"
            "    request.cookies = { c: { value: 'd' } };\n"
            "    request.uri = '/other';\n"
            "    request.querystring = { url: { value: '%2F+a' }, x: { value: '1', multiValue: [{ value: '1' }, { value: '' }] } };\n"
            "    return request;\n"
            "}\n"
        )
        origin, local = self.pair(fleeting, template(code))
        local.ask("/?url=q", [("X-Gone", "1"), ("x-gone", "2"), ("X-Set", "old"), ("Cookie", "a=b"), ("X-Kept", "k")])
        (request,) = origin.requests
        self.assertEqual(request.target, "/other?url=%2F+a&x=1&x=")
        self.assertEqual(request.all("x-gone"), [])
        self.assertEqual(request.all("x-set"), ["new"])
        self.assertEqual(request.all("x-many"), ["1", "2"])
        self.assertEqual(request.all("cookie"), ["c=d"])
        self.assertEqual(request.all("x-kept"), ["k"])
        self.assertEqual(len(request.all("x-amz-cf-id")), 1)

    def test_a_query_may_be_returned_as_text(self) -> None:
        for text in ("url=%2f;+&a", ""):
            code = (
                f"function handler(event) {{ event.request.querystring = {json.dumps(text)}; return event.request; }}"
            )
            origin, local = self.pair(fleeting, template(code))
            local.ask("/?url=q")
            self.assertEqual(origin.requests[0].target, "/" + (f"?{text}" if text else ""))

    def test_what_a_function_must_not_do_is_502(self) -> None:
        for line in [
            "event.request.headers['x-edge-a'] = { value: 'a' };",
            "event.request.headers['connection'] = { value: 'a' };",
            "event.request.headers.host = { value: 'a' };",
            "delete event.request.headers.host;",
            "event.request.headers['X-Upper'] = { value: 'a' };",
            "event.request.headers['x-a'] = { value: 'a\\r\\nx-b: c' };",
            "event.request.headers['x-a'] = { value: 1 };",
            "event.request.method = 'HEAD';",
            "event.request.uri = 'a';",
            "event.request.querystring = 'a b';",
            "return null;",
        ]:
            origin, local = self.pair(fleeting, template(f"function handler(event) {{ {line} return event.request; }}"))
            answer = local.ask()
            self.assertEqual((answer.status, answer.cache), (502, "Error"), line)
            self.assertEqual(origin.requests, [])

    def test_a_throw_is_503(self) -> None:
        for code in [
            "function handler(event) { throw new Error('no'); }",
            "async function handler(event) { throw new Error('no'); }",
            "function handler(event) { return event.nothing.at.all; }",
        ]:
            origin, local = self.pair(fleeting, template(code))
            self.assertEqual(local.ask().status, 503, code)
            self.assertEqual(origin.requests, [])

    def test_is_refused_as_cloudfront_refuses(self) -> None:
        origin, local = self.pair(fleeting)
        for method in ("POST", "PUT", "DELETE", "PATCH", "PROPFIND"):
            self.assertEqual(local.ask(method=method).status, 403, method)
        for field, body in (("Content-Length: 1", "x"), ("Transfer-Encoding: chunked", "1\r\nx\r\n0\r\n\r\n")):
            with local.connect() as client:
                client.sendall(f"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{field}\r\n\r\n{body}".encode())
                self.assertEqual(receive(client).status, 403, field)
        self.assertEqual(local.ask("/?url=" + "a" * 8192).status, 413)
        self.assertEqual(local.ask("/?url=\xff").status, 400)
        self.assertEqual(origin.requests, [])
        self.assertEqual(local.ask(method="OPTIONS").status, 200)
        self.assertEqual(origin.requests[0].method, "OPTIONS")

    def test_a_function_may_answer(self) -> None:
        code = (
            "function handler(event) {\n"
            "    return {\n"
            "        statusCode: 403,\n"
            "        headers: { 'x-a': { value: 'b' }, 'cache-control': { value: 'no-store' } },\n"
            "        body: { encoding: 'base64', data: 'AP/+' }\n"
            "    };\n"
            "}\n"
        )
        throws = "function handler(event) { throw new Error('it must not run'); }"
        origin, local = self.pair(fleeting, template(code, throws))
        answer = local.ask()
        self.assertEqual((answer.status, answer.body, answer.whole), (403, b"\x00\xff\xfe", True))
        self.assertEqual((answer.head.get("x-a"), answer.head.get("cache-control")), ("b", "no-store"))
        self.assertEqual((answer.cache, origin.requests), ("FunctionGeneratedResponse", []))

    def test_only_a_named_field_says_another_address(self) -> None:
        code = "function handler(event) { event.request.headers['x-ip'] = { value: event.viewer.ip }; return event.request; }"
        origin = self.origin(fleeting)
        fields = [("X-Test-Viewer", "203.0.113.7"), ("X-Real-IP", "192.0.2.1")]
        self.local(origin, template(code)).ask(fields=fields)
        self.local(origin, template(code), viewer_header="x-test-viewer").ask(fields=fields)
        self.assertEqual([request.get("x-ip") for request in origin.requests], ["127.0.0.1", "203.0.113.7"])
        self.assertEqual(origin.requests[1].get("x-forwarded-for"), "203.0.113.7")
        self.assertIsNone(origin.requests[1].get("x-test-viewer"))

    def test_may_go_to_a_path_of_the_origin(self) -> None:
        origin, local = self.pair(fleeting, prefix="/lambda-url/gateway")
        local.ask("/?url=%2f")
        self.assertEqual(origin.requests[0].target, "/lambda-url/gateway/?url=%2f")


class TheStore(Case):
    CODE = (
        "import cf from 'cloudfront';\n"
        "import crypto from 'crypto';\n"
        "const kept = cf.kvs();\n"
        "async function handler(event) {\n"
        "    var said = [];\n"
        "    try {\n"
        "        const value = await kept.get('a key/\\u00e9');\n"
        "        said.push(value);\n"
        "        const object = await kept.get('json', { format: 'json' });\n"
        "        said.push(object.a);\n"
        "    } catch (error) {\n"
        "        said.push('threw');\n"
        "    }\n"
        "    const there = await kept.exists('json');\n"
        "    const count = await kept.count();\n"
        "    const meta = await kept.meta();\n"
        "    said.push(there, count, meta.keyCount, crypto.createHash('md5').update('').digest('hex').length);\n"
        "    return { statusCode: 200, body: JSON.stringify(said) };\n"
        "}\n"
    )

    def test_is_read_at_every_request(self) -> None:
        _, local = self.pair(fleeting, with_store(template(self.CODE)))

        def fill(*data: tuple[str, str]) -> list[Any]:
            document = {"data": [{"key": key, "value": value} for key, value in data]}
            store.fill(local.store, store.entries(document))
            return json.loads(local.ask().body)

        self.assertEqual(fill(), ["threw", False, 0, 0, 32])
        self.assertEqual(fill(("a key/é", "ü"), ("json", '{"a":1}')), ["ü", 1, True, 2, 2, 32])
        self.assertEqual(fill(("a key/é", "new")), ["new", "threw", False, 1, 1, 32])
        self.assertEqual([path.stat().st_mode & 0o777 for path in local.store.iterdir()], [0o600])

    def test_a_function_without_one_has_none(self) -> None:
        code = "import cf from 'cloudfront';\nasync function handler(event) { const kept = cf.kvs(); return event.request; }"
        _, local = self.pair(fleeting, template(code))
        self.assertEqual(local.ask().status, 503)

    def test_refuses_what_a_store_would(self) -> None:
        for document in [
            [],
            {"data": [{"key": "a"}]},
            {"data": [{"key": "a", "value": 1}]},
            {"data": [{"key": "", "value": "1"}]},
            {"data": [{"key": "a" * 513, "value": "1"}]},
            {"data": [{"key": "a", "value": "1" * 1025}]},
            {"data": [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]},
        ]:
            with self.assertRaises(store.Refused, msg=document):
                store.entries(document)


class TheCache(Case):
    def test_keeps_what_it_may(self) -> None:
        origin, local = self.pair(whole)
        first, second = local.ask(), local.ask()
        self.assertEqual((first.cache, second.cache), ("Miss", "Hit"))
        self.assertEqual((first.body, second.body), (WHOLE, WHOLE))
        self.assertEqual((first.head.get("age"), second.head.get("age")), (None, "0"))
        self.assertEqual(len(origin.requests), 1)

    def test_key_is_that_of_the_policy(self) -> None:
        code = (
            "function handler(event) {\n"
            "    event.request.headers['x-sluicegate-partition'] = event.request.headers['x-test-partition'];\n"
            "    if (!event.request.headers['x-test-partition']) { delete event.request.headers['x-sluicegate-partition']; }\n"
            "    return event.request;\n"
            "}\n"
        )
        origin, local = self.pair(whole, template(code))
        first = [("X-Test-Partition", "one")]
        asked = [
            ("/?url=a", first, "Miss"),
            ("/?url=a&sig=x", first, "Hit"),
            ("/?exp=1&url=a", [*first, ("Cookie", "a=b"), ("Origin", "https://a.example"), ("Accept", "x")], "Hit"),
            ("/?url=a", [("X-Test-Partition", "two")], "Miss"),
            ("/?url=a", [], "Miss"),
            ("/?url=b", first, "Miss"),
            ("/?url=%61", first, "Miss"),
            ("/?url=a&url=b", first, "Miss"),
            ("/?URL=a", first, "Miss"),
            ("/", first, "Hit"),
            ("/x?url=a", first, "Miss"),
            ("/?url=", first, "Miss"),
            ("/?url=a", first, "Hit"),
        ]
        for target, fields, wanted in asked:
            self.assertEqual(local.ask(target, fields).cache, wanted, (target, fields))
        self.assertEqual(len(origin.requests), sum(wanted == "Miss" for _, _, wanted in asked))

    def lifetimes(self, controls: list[Fields], **policy: int) -> list[int]:
        """Seconds that each answer is kept, from the time that nginx writes into a kept file."""
        _, local = self.pair(
            lambda connection, request: say(connection, b"ok", controls[int(request.target[6:])]), template(**policy)
        )
        found = []
        for number, _ in enumerate(controls):
            before = set(local.kept())
            local.ask(f"/?url={number}")
            new = set(local.kept()) - before
            found.append(sum(lifetime(path) for path in new))
        return found

    def test_times_are_those_of_the_policy(self) -> None:
        controls: list[tuple[str | None, int]] = [
            ("max-age=60", 60),
            ("max-age=60, s-maxage=600", 600),
            ("s-maxage=600, max-age=60", 600),
            ("max-age=60, s-maxage=0", 0),
            ("private, max-age=60", 0),
            ("private, s-maxage=60", 0),
            ("no-store", 0),
            ("no-cache, max-age=60", 0),
            ("max-age=60, NO-STORE", 0),
            ("public", 0),
            ("max-age=100000", 86400),
            ("x-private=1, max-age=60", 60),
            (None, 0),
        ]
        said = [[("Cache-Control", control)] if control else [] for control, _ in controls]
        found = self.lifetimes(said, MinTTL=0, DefaultTTL=0, MaxTTL=86400)
        self.assertEqual(list(zip(said, found)), list(zip(said, [wanted for _, wanted in controls])))

    def test_minimum_and_default_count(self) -> None:
        said = [
            [],
            [("Cache-Control", "no-store")],
            [("Cache-Control", "max-age=60")],
            [("Cache-Control", "max-age=1")],
        ]
        self.assertEqual(self.lifetimes(said, MinTTL=30, DefaultTTL=50, MaxTTL=55), [50, 30, 55, 30])

    def test_other_fields_change_no_time(self) -> None:
        said = [
            [KEPT, ("Set-Cookie", "a=b")],
            [KEPT, ("Vary", "Origin")],
            [KEPT, ("X-Accel-Expires", "0")],
            [KEPT, ("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")],
            [("X-Accel-Expires", "600")],
            [("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")],
        ]
        self.assertEqual(self.lifetimes(said, MinTTL=0, DefaultTTL=0, MaxTTL=86400), [600, 600, 600, 600, 0, 0])

    def errors(self, made: Template, code: int, fields: Fields) -> int:
        """How often the origin is asked by two requests that it answers with this code."""
        origin, local = self.pair(lambda connection, _: say(connection, b"no", fields, f"{code} No"), made)
        for _ in range(2):
            answer = local.ask()
            self.assertEqual((answer.status, answer.body, answer.cache), (code, b"no", "Error"))
        return len(origin.requests)

    def test_keeps_no_error(self) -> None:
        for code in (400, 401, 403, 404, 405, 410, 412, 413, 414, 415, 416, 429, 500, 501, 502, 503, 504):
            with self.subTest(code=code):
                self.assertEqual(self.errors(template(), code, [("Cache-Control", "no-store")]), 2)

    def test_keeps_an_error_that_the_template_forgot(self) -> None:
        for code in (404, 414, 500, 501, 502, 503, 504):
            with self.subTest(code=code):
                made = template()
                errors = distribution(made)["CustomErrorResponses"]
                distribution(made)["CustomErrorResponses"] = [one for one in errors if one["ErrorCode"] != code]
                self.assertEqual(self.errors(made, code, [("Cache-Control", "no-store")]), 1)

    def test_keeps_an_error_that_says_so(self) -> None:
        for code, asked in ((400, 1), (403, 1), (404, 1), (401, 2), (429, 2)):
            with self.subTest(code=code):
                self.assertEqual(self.errors(template(), code, [("Cache-Control", "max-age=60")]), asked)

    def test_an_origin_that_is_gone_is_not_kept_either(self) -> None:
        made = template()
        forgot = copy.deepcopy(made)
        distribution(forgot)["CustomErrorResponses"] = []
        for one, asked in ((made, 2), (forgot, 1)):
            origin, local = self.pair(lambda connection, _: None, one)
            self.assertEqual([local.ask().status, local.ask().status], [502, 502])
            self.assertEqual(len(origin.requests), asked)

    def test_keeps_no_part(self) -> None:
        fields = [KEPT, ("Content-Range", "bytes 0-1/9")]
        origin, local = self.pair(lambda connection, _: say(connection, b"ab", fields, "206 Partial Content"))
        for _ in range(2):
            answer = local.ask(fields=[("Range", "bytes=0-1")])
            self.assertEqual(
                (answer.status, answer.body, answer.head.get("content-range")), (206, b"ab", "bytes 0-1/9")
            )
        self.assertEqual([request.get("range") for request in origin.requests], ["bytes=0-1"] * 2)

    def test_keeps_nothing_of_options(self) -> None:
        origin, local = self.pair(whole)
        for _ in range(2):
            self.assertEqual(local.ask(method="OPTIONS").status, 200)
        self.assertEqual(local.ask().cache, "Miss")
        self.assertEqual(len(origin.requests), 3)


def lifetime(path: Path) -> int:
    """`valid_sec` less `date` of the header that nginx 1.22 writes (ngx_http_file_cache_header_t, version 5)."""
    version, valid, _, _, _, date = struct.unpack("<Qqqqqq", path.read_bytes()[:48])
    assert version == 5, version
    return valid - date


def expire(path: Path) -> None:
    """As if its time had come."""
    with path.open("r+b") as file:
        file.seek(8)
        file.write(struct.pack("<q", 1))


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def without_end(connection: socket.socket) -> None:
    start_chunks(connection, [KEPT])
    chunk(connection, WHOLE[:20000])


def short(connection: socket.socket) -> None:
    connection.sendall(f"HTTP/1.1 200 OK\r\n{KEPT[0]}: {KEPT[1]}\r\nContent-Length: {len(WHOLE)}\r\n\r\n".encode())
    connection.sendall(WHOLE[:20000])


def chunk_cut(connection: socket.socket) -> None:
    start_chunks(connection, [KEPT])
    connection.sendall(b"%x\r\n%s" % (len(WHOLE), WHOLE[:20000]))


BREAKS: dict[str, list[Callable[[socket.socket], None]]] = {
    "no last chunk": [without_end],
    "in a chunk": [chunk_cut],
    "short": [short],
    "no last chunk, reset": [without_end, reset],
    "short, reset": [short, reset],
}


class Bodies(Case):
    def breaking(self, steps: list[Callable[[socket.socket], None]], told: threading.Event) -> Origin:
        """Its first answer breaks off, once the client has the beginning; all others are whole."""

        def script(connection: socket.socket, request: Head) -> None:
            if len(origin.requests) > 1:
                return whole(connection, request)
            for step in steps:
                if step is reset:
                    told.wait(SECONDS)
                step(connection)

        origin = self.origin(script)
        return origin

    def test_one_that_breaks_off_is_never_kept(self) -> None:
        for name, steps in BREAKS.items():
            for response in (None, LOOKS):
                with self.subTest(name, response=response):
                    told = threading.Event()
                    local = self.local(self.breaking(steps, told), template(response=response))
                    with local.connect() as client:
                        send(client, "/?url=a")
                        head, rest = head_of(client)
                        told.set()
                        data = rest
                        try:
                            while piece := client.recv(65536):
                                data += piece
                        except ConnectionResetError:
                            pass
                    broken = answer(Head(head), data, "GET")
                    self.assertEqual((broken.status, broken.whole), (200, False))
                    again, kept = local.ask(), local.ask()
                    self.assertEqual((again.body, again.whole, again.cache), (WHOLE, True, "Miss"))
                    self.assertEqual((kept.body, kept.whole, kept.cache), (WHOLE, True, "Hit"))

    def test_one_that_ends_with_the_connection_is_kept(self) -> None:
        """CloudFront cannot tell either, and keeps it: the origin must never send one."""

        def script(connection: socket.socket, request: Head) -> None:
            connection.sendall(f"HTTP/1.1 200 OK\r\n{KEPT[0]}: {KEPT[1]}\r\n\r\nok".encode())

        origin, local = self.pair(script)
        self.assertEqual([local.ask().body, local.ask().cache, len(origin.requests)], [b"ok", "Hit", 1])

    def test_the_first_bytes_do_not_wait_for_the_last(self) -> None:
        for control in ("no-store", "s-maxage=600"):
            for response in (None, LOOKS):
                with self.subTest(control, response=response):
                    arrived = threading.Event()

                    def script(connection: socket.socket, request: Head) -> None:
                        start_chunks(connection, [("Cache-Control", control)])
                        chunk(connection, b"first")
                        if not arrived.wait(SECONDS):
                            raise AssertionError("the first bytes did not arrive")
                        chunk(connection, b"last")
                        chunk(connection, b"")

                    _, local = self.pair(script, template(response=response))
                    with local.connect() as client:
                        send(client, "/?url=a")
                        head, data = head_of(client)
                        while b"first" not in data:
                            data += client.recv(65536)
                        arrived.set()
                        while piece := client.recv(65536):
                            data += piece
                    self.assertEqual(answer(Head(head), data, "GET").body, b"firstlast")

    def test_memory_does_not_grow_with_the_file(self) -> None:
        size, piece = 50 << 20, b"x" * (1 << 16)
        for control in ("no-store", "s-maxage=600"):
            with self.subTest(control):

                def script(connection: socket.socket, request: Head) -> None:
                    start_chunks(connection, [("Cache-Control", control), ("X-Sluicegate-Length", str(size))])
                    for _ in range(size // len(piece)):
                        chunk(connection, piece)
                    chunk(connection, b"")

                _, local = self.pair(script, template(response=LOOKS))
                local.ask("/nothing", method="POST")
                before = local.worker_peak()
                for _ in range(2):
                    answer = local.ask()
                    self.assertEqual((len(answer.body), answer.whole), (size, True))
                self.assertLess(local.worker_peak() - before, 8 << 20)


class Together(Case):
    """Requests for one thing at one time."""

    def crowd(self, first: Callable[[socket.socket], None], count: int) -> tuple[Origin, list[Answer]]:
        """So many clients at once; the first that the origin sees is answered when all of them are at the cache."""
        waited: list[Local] = []

        def script(connection: socket.socket, request: Head) -> None:
            if len(origin.requests) > 1:
                return whole(connection, request)
            ready.wait(SECONDS)
            waited[0].wait_logged("passed on to the cache", count)
            first(connection)

        ready = threading.Event()
        origin = self.origin(script)
        local = self.local(origin)
        waited.append(local)
        ready.set()
        answers: list[Answer] = []
        clients = [threading.Thread(target=lambda: answers.append(local.ask())) for _ in range(count)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(SECONDS)
        self.assertEqual(len(answers), count)
        return origin, answers

    def test_are_one_to_the_origin(self) -> None:
        origin, answers = self.crowd(lambda connection: chunks(connection, WHOLE, [KEPT, LENGTH]), 12)
        self.assertEqual({answer.body for answer in answers}, {WHOLE})
        self.assertEqual(sorted(answer.cache for answer in answers), ["Hit"] * 11 + ["Miss"])
        self.assertEqual(len(origin.requests), 1)

    def test_get_their_own_answer_after_one_that_is_not_kept(self) -> None:
        def refused(connection: socket.socket) -> None:
            say(connection, b"no", [("Cache-Control", "no-store")], "403 Forbidden")

        def private(connection: socket.socket) -> None:
            say(connection, b"mine", [("Cache-Control", "private, max-age=600")])

        for first in (refused, private, reset, without_end, short):
            with self.subTest(first.__name__):
                origin, answers = self.crowd(first, 4)
                good = [answer for answer in answers if answer.status == 200 and answer.body == WHOLE and answer.whole]
                self.assertEqual(len(good), 3)
                self.assertEqual(len(origin.requests), 2)


class Parts(Case):
    def ranges(self, local: Local, wanted: str, *more: tuple[str, str]) -> Answer:
        return local.ask(fields=[("Range", f"bytes={wanted}"), *more])

    def test_are_cut_from_what_is_kept(self) -> None:
        for response in (None, LOOKS):
            with self.subTest(response=response):
                origin, local = self.pair(whole, template(response=response))
                local.ask()
                for wanted, start, end in (
                    ("0-9", 0, 10),
                    ("20000-29999", 20000, 30000),
                    ("-5", len(WHOLE) - 5, len(WHOLE)),
                    ("31990-", 31990, len(WHOLE)),
                ):
                    part = self.ranges(local, wanted)
                    self.assertEqual((part.status, part.body, part.whole), (206, WHOLE[start:end], True))
                    self.assertEqual(part.head.get("content-range"), f"bytes {start}-{end - 1}/{len(WHOLE)}")
                self.assertEqual(self.ranges(local, f"{len(WHOLE)}-").status, 416)
                self.assertEqual(self.ranges(local, "0-9", ("If-Range", '"v1"')).status, 206)
                self.assertEqual(self.ranges(local, "0-9", ("If-Range", '"v2"')).body, WHOLE)
                self.assertEqual(len(origin.requests), 1)

    def test_a_miss_in_chunks_is_the_whole(self) -> None:
        origin, local = self.pair(whole)
        answer = self.ranges(local, "0-9")
        self.assertEqual((answer.status, answer.body, answer.cache), (200, WHOLE, "Miss"))
        self.assertEqual(origin.requests[0].get("range"), "bytes=0-9")
        self.assertEqual(self.ranges(local, "0-9").body, WHOLE[:10])

    def test_conditions_are_answered_from_what_is_kept(self) -> None:
        origin, local = self.pair(whole)
        local.ask()
        for tag, status in (('"v1"', 304), ('"v2"', 200), ('W/"v1"', 304), ("*", 304)):
            self.assertEqual(local.ask(fields=[("If-None-Match", tag)]).status, status, tag)
        self.assertEqual(len(origin.requests), 1)

    def test_conditions_of_a_miss_are_the_origins(self) -> None:
        def script(connection: socket.socket, request: Head) -> None:
            if request.get("if-none-match"):
                connection.sendall(b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\nCache-Control: s-maxage=600\r\n\r\n')
            else:
                whole(connection, request)

        origin, local = self.pair(script)
        self.assertEqual(local.ask(fields=[("If-None-Match", '"v1"')]).status, 304)
        self.assertEqual(origin.requests[0].all("if-none-match"), ['"v1"'])
        self.assertEqual((local.ask().body, len(origin.requests)), (WHOLE, 2))

    def test_what_is_too_old_is_asked_for_under_its_tag(self) -> None:
        def script(connection: socket.socket, request: Head) -> None:
            if request.get("if-none-match"):
                connection.sendall(b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\nCache-Control: s-maxage=600\r\n\r\n')
            else:
                whole(connection, request)

        origin, local = self.pair(script)
        local.ask()
        expire(local.kept()[0])
        answer = local.ask(fields=[("If-None-Match", '"other"')])
        self.assertEqual((answer.status, answer.body, answer.cache), (200, WHOLE, "RefreshHit"))
        self.assertEqual(origin.requests[1].all("if-none-match"), ['"v1"'])
        self.assertEqual((local.ask().cache, len(origin.requests)), ("Hit", 2))

    def test_head_and_get_share_an_entry_that_head_cannot_spoil(self) -> None:
        origin, local = self.pair(whole)
        self.assertEqual((local.ask(method="HEAD").status, local.ask(method="HEAD").cache), (200, "Miss"))
        self.assertEqual(local.ask().body, WHOLE)
        head = local.ask(method="HEAD")
        self.assertEqual((head.cache, head.head.get("content-length"), head.whole), ("Hit", str(len(WHOLE)), True))
        self.assertEqual([request.method for request in origin.requests], ["HEAD", "HEAD", "GET"])


class TheResponse(Case):
    CODE = (
        "function handler(event) {\n"
        "    var response = event.response;\n"
        "    response.headers['x-seen'] = { value: event.request.headers['x-set'].value };\n"
        "    response.headers['x-id'] = { value: event.context.requestId };\n"
        "    response.headers['x-query'] = { value: event.request.rawQueryString() };\n"
        "    var was = response.statusCode + response.headers['content-disposition'].value;\n"
        "    response.headers['x-was'] = { value: was };\n"
        "    response.headers['content-disposition'] = { value: event.request.headers['x-name'].value };\n"
        "    delete response.headers['x-gone'];\n"
        "    return response;\n"
        "}\n"
    )
    SETS = (
        "function handler(event) {\n"
        "    event.request.headers['x-set'] = { value: 'by viewer-request' };\n"
        "    event.request.headers['x-id'] = { value: event.context.requestId };\n"
        "    return event.request;\n"
        "}\n"
    )

    def test_is_changed_on_hits_and_misses(self) -> None:
        fields = [
            KEPT,
            LENGTH,
            ("Content-Disposition", "origin"),
            ("X-Gone", "1"),
            ("X-Gone", "2"),
            ("X-Kept", "1"),
            ("X-Kept", "2"),
        ]
        origin, local = self.pair(
            lambda connection, _: chunks(connection, WHOLE, fields), template(self.SETS, self.CODE)
        )
        for name, cache in (("one", "Miss"), ("two", "Hit"), ("three", "Hit")):
            answer = local.ask(f"/?url=a&filename={name}", [("X-Name", name)])
            self.assertEqual((answer.cache, answer.body, answer.whole), (cache, WHOLE, True))
            self.assertEqual(answer.head.all("content-disposition"), [name])
            self.assertEqual(answer.head.get("x-was"), "200origin")
            self.assertEqual(answer.head.get("x-seen"), "by viewer-request")
            self.assertEqual(answer.head.get("x-query"), f"url=a&filename={name}")
            self.assertEqual(answer.head.get("x-id"), answer.head.get("x-amz-cf-id"))
            self.assertEqual((answer.head.all("x-gone"), answer.head.all("x-kept")), ([], ["1", "2"]))
        self.assertEqual(len(origin.requests), 1)
        part = local.ask(fields=[("X-Name", "part"), ("Range", "bytes=8-15")])
        self.assertEqual((part.status, part.body, part.head.get("content-disposition")), (206, WHOLE[8:16], "part"))

    def test_is_left_alone_where_the_origin_refused(self) -> None:
        throws = "function handler(event) { throw new Error('it must not run'); }"
        for status in ("400 Bad", "404 No", "500 No"):
            _, local = self.pair(lambda connection, _: say(connection, b"no", [], status), template(response=throws))
            self.assertEqual(local.ask().text, "no")

    def test_a_throw_is_503_without_a_byte_of_the_file(self) -> None:
        for code in [
            "function handler(event) { throw new Error('no'); }",
            "function handler(event) { event.response.headers.via = { value: 'x' }; return event.response; }",
            "function handler(event) { event.response.headers['x-cache'] = { value: 'x' }; return event.response; }",
            "function handler(event) { event.response.body = 'x'; return event.response; }",
            "function handler(event) { return null; }",
            "function handler(event) { event.response.statusCode = 203; return event.response; }",
        ]:
            for fields in ([KEPT, LENGTH, ("X-Secret", "1")], [("Cache-Control", "no-store")]):
                _, local = self.pair(lambda connection, _: chunks(connection, WHOLE, fields), template(response=code))
                for _ in range(2):
                    answer = local.ask(fields=[("Range", "bytes=0-9")])
                    self.assertEqual(
                        (answer.status, answer.text, answer.whole),
                        (503, "The viewer-response function failed.\n", True),
                    )
                    self.assertEqual((answer.head.get("x-secret"), answer.cache), (None, "Error"))


class TheTemplate(Case):
    """The project's own functions, and what of a template is refused."""

    def test_carries_functions_that_run(self) -> None:
        origin, local = self.pair(fleeting, OURS, viewer_header="x-test-viewer")
        two = [("Authorization", "Bearer a.b.c"), ("X-Sluicegate-Token", "d.e.f")]
        answer = local.ask(fields=two)
        self.assertEqual(answer.cache, "FunctionGeneratedResponse")
        self.assertEqual(json.loads(answer.body)["code"], "malformed_link")
        self.assertEqual(origin.requests, [])
        forged = [("X-Sluicegate-Client", "192.0.2.1"), ("X-Sluicegate-Partition", "x"), ("X-Sluicegate-Other", "x")]
        self.assertNotEqual(local.ask(fields=[*forged, ("X-Test-Viewer", "203.0.113.7")]).status, 503)
        for request in origin.requests:
            self.assertEqual(
                (request.all("x-sluicegate-client"), request.all("x-sluicegate-other")), (["203.0.113.7"], [])
            )
            self.assertNotIn("x", request.all("x-sluicegate-partition"))

    def test_is_refused_where_it_is_not_modelled(self) -> None:
        def behaviour(made: Template) -> dict[str, Any]:
            return distribution(made)["DefaultCacheBehavior"]

        def policy(made: Template) -> dict[str, Any]:
            return made["Resources"]["CachePolicy"]["Properties"]["CachePolicyConfig"][
                "ParametersInCacheKeyAndForwardedToOrigin"
            ]

        changes: list[tuple[str, Callable[[Template], Any]]] = [
            ("CacheBehaviors", lambda made: distribution(made).update(CacheBehaviors=[{}])),
            ("DefaultRootObject", lambda made: distribution(made).update(DefaultRootObject="index.html")),
            ("origins", lambda made: distribution(made)["Origins"].append({"Id": "two"})),
            ("OriginCustomHeaders", lambda made: distribution(made)["Origins"][0].update(OriginCustomHeaders=[])),
            ("OriginShield", lambda made: distribution(made)["Origins"][0].update(OriginShield={})),
            ("ConnectionAttempts", lambda made: distribution(made)["Origins"][0].update(ConnectionAttempts=3)),
            (
                "ResponsePagePath",
                lambda made: distribution(made)["CustomErrorResponses"][0].update(ResponsePagePath="/e"),
            ),
            ("Enabled", lambda made: distribution(made).update(Enabled=False)),
            ("origin request policy", lambda made: behaviour(made).update(OriginRequestPolicyId="other")),
            ("CachePolicy", lambda made: behaviour(made).update(CachePolicyId="658327ea-f89d-4fab-a63d-7e88639e58f6")),
            ("Compress", lambda made: behaviour(made).update(Compress=True)),
            ("CachedMethods", lambda made: behaviour(made).update(CachedMethods=["GET", "HEAD", "OPTIONS"])),
            ("POST", lambda made: behaviour(made)["AllowedMethods"].append("POST")),
            ("ResponseHeadersPolicyId", lambda made: behaviour(made).update(ResponseHeadersPolicyId="x")),
            ("LambdaFunctionAssociations", lambda made: behaviour(made).update(LambdaFunctionAssociations=[])),
            (
                "origin-request",
                lambda made: behaviour(made)["FunctionAssociations"][0].update(EventType="origin-request"),
            ),
            ("HeaderBehavior", lambda made: policy(made).update(HeadersConfig={"HeaderBehavior": "allViewer"})),
            (
                "QueryStringBehavior",
                lambda made: policy(made).update(QueryStringsConfig={"QueryStringBehavior": "allExcept"}),
            ),
            ("CookiesConfig", lambda made: policy(made).update(CookiesConfig={"CookieBehavior": "all"})),
            ("EnableAcceptEncodingGzip", lambda made: policy(made).update(EnableAcceptEncodingGzip=True)),
            (
                "Runtime",
                lambda made: made["Resources"]["TestViewerRequest"]["Properties"]["FunctionConfig"].update(
                    Runtime="cloudfront-js-1.0"
                ),
            ),
            ("handler", lambda made: made["Resources"]["TestViewerRequest"]["Properties"].update(FunctionCode="x")),
            (
                "Fn::Sub",
                lambda made: made["Resources"]["TestViewerRequest"]["Properties"].update(FunctionCode={"Fn::Sub": "x"}),
            ),
            (
                "async",
                lambda made: made["Resources"]["TestViewerResponse"]["Properties"].update(
                    FunctionCode="async function handler(event) {}"
                ),
            ),
            (
                "no-override",
                lambda made: made["Resources"]["OriginAccess"]["Properties"]["OriginAccessControlConfig"].update(
                    SigningBehavior="no-override"
                ),
            ),
        ]
        for words, change in changes:
            with self.subTest(words):
                made = template(response=LOOKS)
                change(made)
                with self.assertRaisesRegex(cloudfront.Refused, words):
                    cloudfront.read(cloudfront.Template(made))

    def test_a_value_may_be_a_parameters_default(self) -> None:
        made = template(MaxTTL={"Ref": "Longest"})
        made["Parameters"]["Longest"] = {"Type": "Number", "Default": 77}
        self.assertEqual(cloudfront.read(cloudfront.Template(made)).max_ttl, 77)


class TheCommand(Case):
    def run_it(self, *arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-B", str(ROOT / "edge" / "local" / "cloudfront.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def test_writes_what_nginx_takes(self) -> None:
        given = [
            "--origin",
            "http://127.0.0.1:1/path/",
            "--folder",
            str(self.folder),
            "--store",
            str(self.folder / "store"),
        ]
        done = self.run_it(*given, "--template", str(TEMPLATE))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"^http://127\.0\.0\.1:[1-9][0-9]*\n$")
        nginx = [cloudfront.nginx(), "-t", "-p", f"{self.folder}/", "-c", "nginx.conf", "-e", "error.log"]
        tested = subprocess.run(nginx, capture_output=True, text=True, timeout=SECONDS)
        self.assertEqual(tested.returncode, 0, tested.stderr)
        # A second time, over what is there.
        self.assertEqual(self.run_it(*given).returncode, 0)

    def test_refuses_what_it_cannot_do(self) -> None:
        good = {"--origin": "http://127.0.0.1:1", "--folder": str(self.folder), "--store": str(self.folder)}
        for name, value, words in [
            ("--origin", "https://127.0.0.1:1", "is no origin"),
            ("--origin", "http://127.0.0.1:1/?a", "is no origin"),
            ("--origin", "http://127.0.0.1:1;x", "is no origin"),
            ("--listen", "0.0.0.0:0", "is not on loopback"),
            ("--listen", "localhost:0", "is no address"),
            ("--listen", "127.0.0.1:x", "is no port"),
            ("--folder", str(self.folder / ("x" * 100)), "is too long for a socket"),
            ("--template", str(self.folder / "none.yaml"), "No such file"),
        ]:
            done = self.run_it(*(text for pair in {**good, name: value}.items() for text in pair))
            self.assertEqual((done.returncode, done.stdout), (1, ""), value)
            self.assertIn(words, done.stderr)
            self.assertTrue(done.stderr.startswith("edge/local/cloudfront.py: "), done.stderr)

    def test_fills_a_store(self) -> None:
        entries = self.folder / "entries.json"
        entries.write_text(json.dumps({"data": [{"key": "acme-1", "value": "x"}]}))
        command = [sys.executable, "-B", str(ROOT / "edge" / "local" / "store.py"), "--entries", str(entries)]
        subprocess.run([*command, str(self.folder / "store")], check=True, timeout=SECONDS)
        self.assertEqual([path.name for path in (self.folder / "store").iterdir()], ["YWNtZS0x"])
        entries.write_text("{}")
        done = subprocess.run([*command, str(self.folder / "store")], capture_output=True, text=True, timeout=SECONDS)
        self.assertEqual((done.returncode, "no list `data`" in done.stderr), (1, True))


if __name__ == "__main__":
    unittest.main()
