"""The data plane of a CloudFront KeyValueStore for `tests/edge_sync.rs`, as botocore's service model describes it
(cloudfront-keyvaluestore 2022-07-26), with every signature verified by `sigv4a.py`. It prints where it is
and who may ask; then it takes one command a line and answers each with one line.

    put KEY VALUE                    writes an entry by another hand
    keys                             everything in the store, as JSON
    calls                            how often each operation was asked for, as JSON
    updates                          the keys of each batch that was written, as JSON
    fail OPERATION N STATUS KIND     answers the next N with an error; KIND `echo`
                                     repeats what was sent, `stale` speaks of the version
    race N                           another hand writes before each of the next N updates
    mute N                           the Nth update from now is written, and not answered
    die N                            after N more updates nothing is answered, until `live`
"""

import base64
import collections
import http.server
import json
import secrets
import sys
import threading
import urllib.parse

import sigv4a
from sigv4a import Refused

ARN = "arn:aws:cloudfront::123456789012:key-value-store/7d6d0b2c-0d2c-4c3f-9d6d-2f6c1f0a4b11"
# Id of the access key: its secret, and the token that has to come along.
USERS = {
    "AKIDLONGTERM": ("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None),
    "ASIATEMPORARY": ("temporary/secret+0123456789abcdefghijklm", "session/token+0123456789=="),
}
lock = threading.RLock()
entries = {}
etag = "KV0"
calls = collections.Counter()
updates = []
# What the next answers are to be.
failures = collections.defaultdict(list)
races = 0
mute = None
dies_after = None


class Dead(Exception):
    """The connection ends without an answer."""


def size(things):
    return sum(len(key.encode()) + len(value.encode()) for key, value in things.items())


def invalid(message):
    return Refused(400, "ValidationException", message)


def describe():
    created = 1700000000.0
    told = {"KvsARN": ARN, "Created": created, "ItemCount": len(entries), "TotalSizeInBytes": size(entries)}
    return told | {"Status": "READY"}, etag


def list_keys(query):
    most = int(query.get("MaxResults", "10"))
    if not 1 <= most <= 50:
        raise invalid("MaxResults")
    after = ""
    if "NextToken" in query:
        try:
            after = base64.b64decode(query["NextToken"], validate=True).decode().removeprefix(">?>?")
        except ValueError:
            raise invalid("NextToken") from None
    rest = sorted(key for key in entries if key > after)
    told = {"Items": [{"Key": key, "Value": entries[key]} for key in rest[:most]]}
    if len(rest) > most:
        # A token with characters that have to be encoded: `+`, `/` and `=`.
        told["NextToken"] = base64.b64encode(f">?>?{rest[most - 1]}".encode()).decode()
    return told, None


def write(new, by):
    global entries, etag
    entries = new
    etag = f"KV{secrets.token_hex(8)}"
    if by is not None:
        updates.append(by)


def update(if_match, body):
    global races, mute, dies_after
    if races > 0:
        races -= 1
        write(entries | {f"other/{races}": "x"}, None)
    if not if_match:
        raise invalid("IfMatch is missing")
    if if_match != etag:
        raise Refused(409, "ConflictException", "Resource is not in expected state.")
    asked = json.loads(body)
    puts = {item["Key"]: item["Value"] for item in asked.get("Puts", [])}
    deletes = {item["Key"] for item in asked.get("Deletes", [])}
    number = len(asked.get("Puts", [])) + len(asked.get("Deletes", []))
    if not 1 <= number <= 50 or number != len(puts.keys() | deletes):
        raise invalid("at least one and at most 50 changes, each of another key")
    if len(body) > 3_000_000:
        raise invalid("at most 3 MB")
    if any(not 1 <= len(key.encode()) <= 512 or len(value.encode()) > 1024 for key, value in puts.items()):
        raise invalid("at most 512 bytes of key and 1024 of value")
    if not deletes <= entries.keys():
        raise Refused(404, "ResourceNotFoundException", "a key to delete is not there")
    new = {key: value for key, value in (entries | puts).items() if key not in deletes}
    if size(new) > 5_000_000:
        raise Refused(402, "ServiceQuotaExceededException", "Limit exceeded.")
    write(new, {"puts": sorted(puts), "deletes": sorted(deletes)})
    dies_after = dies_after - 1 if dies_after is not None else None
    mute = mute - 1 if mute is not None else None
    if mute == 0:
        mute = None
        raise Dead
    return {"ItemCount": len(entries), "TotalSizeInBytes": size(entries)}, etag


def answer(method, target, headers, body):
    if dies_after == 0:
        raise Dead
    path, _, query = target.partition("?")
    query = dict(urllib.parse.parse_qsl(query, strict_parsing=True)) if query else {}
    parts = path.split("/")
    operation = {
        ("GET", 3): "DescribeKeyValueStore",
        ("GET", 4): "ListKeys",
        ("POST", 4): "UpdateKeys",
    }.get((method, len(parts)), "?")
    calls[operation] += 1
    sigv4a.verify(USERS, method, target, headers, body)
    if failures[operation]:
        status, kind = failures[operation].pop()
        if kind == "echo":
            raise invalid(f"the value {json.loads(body)['Puts'][0]['Value']} does not fit")
        if kind == "stale":
            raise invalid("Pre-condition failed: the ETag is not the current one")
        raise Refused(status, kind, "a failure that was asked for")
    if parts[:2] != ["", "key-value-stores"] or operation == "?" or parts[3:] not in ([], ["keys"]):
        raise Refused(404, "UnknownOperationException", "there is no such operation")
    if urllib.parse.unquote(parts[2]) != ARN:
        raise Refused(404, "ResourceNotFoundException", "Resource was not found.")
    if operation == "DescribeKeyValueStore":
        return describe()
    if operation == "ListKeys":
        return list_keys(query)
    return update(headers.get("if-match"), body)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        try:
            with lock:
                told, tag = answer(self.command, self.path, self.headers, body)
            status, headers = 200, {"ETag": tag} if tag else {}
        except Refused as refused:
            status, kind, message = refused.args
            told, headers = {"Message": message}, {"x-amzn-ErrorType": kind}
        except Dead:
            self.close_connection = True
            return
        text = json.dumps(told).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_GET

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
port = server.server_address[1]


def run(command, *rest):
    global races, mute, dies_after
    if command == "put":
        write(entries | {rest[0]: rest[1]}, None)
    elif command in ("keys", "calls", "updates"):
        return json.dumps({"keys": entries, "calls": calls, "updates": updates}[command])
    elif command == "fail":
        operation, number, status, kind = rest
        failures[operation] = [(int(status), kind)] * int(number)
    elif command == "race":
        races = int(rest[0])
    elif command == "mute":
        mute = int(rest[0])
    elif command == "die":
        dies_after = int(rest[0])
    elif command == "live":
        dies_after = None
    return "ok"


users = {name: [key, *values] for name, (key, values) in zip(("owner", "temporary"), USERS.items())}
print(json.dumps({"endpoint": f"http://127.0.0.1:{port}", "arn": ARN, **users}), flush=True)
for line in sys.stdin:
    print(run(*line.split()), flush=True)
