#!/usr/bin/env python3
"""Asks a gateway for everything that is not a plain download over HTTP/1.1, so that a profile of it knows those ways too:
HTTP/2, tokens, ranges, validators, heads and refusals.

    release/breadth.py PROGRAM

PROGRAM serves on loopback what nginx has in a folder of this script's; `h2load` (Debian's `nghttp2-client`) asks. Whatever is
answered otherwise than it should be ends the script with an error.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECRET = "sgk1_profile-0123456789abcdefghijklmnopqrstuvwxyz-ABCDEFGH"
FILES = "http://files.test.example"

# No limit is ever met, and each is counted.
POLICY = """\
tenant = "profile"
[[keys]]
id = "profile"
secret = "file:profile.secret"
[[issuers]]
issuer = "https://issuer.test.example/"
audience = "sluicegate"
[[issuers.keys]]
id = "k1"
algorithm = "HS256"
secret = "file:profile.secret"
[[allow]]
host = "files.test.example"
schemes = ["http"]
[limits.key]
requests_per_second = 1000000.0
burst = 1000000
concurrent_downloads = 10000
"""

CONFIG = """\
listen = "127.0.0.1:{own}"
policy = "policy"
log = "json"
[origin]
open = ["127.0.0.1:{upstream}"]
[origin.hosts]
"files.test.example" = "127.0.0.1:{upstream}"
"""

NGINX = """\
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 1000000;
  client_body_temp_path tmp;
  proxy_temp_path tmp;
  fastcgi_temp_path tmp;
  uwsgi_temp_path tmp;
  scgi_temp_path tmp;
  server {{ listen 127.0.0.1:{upstream} backlog=1024; root files; }}
}}
"""

# Bytes of the files, by name: one packet, one piece, many pieces.
SIZES = {"small": 700, "middle": 30_000, "large": 200_000_000}

H1, H2 = ["--h1"], []


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def running(command, **settings):
    """A process that is asked to end, and has to end well: the gateway writes its counts then."""
    process = subprocess.Popen(command, **settings)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    if code != 0:
        sys.exit(f"release/breadth.py: `{command[0]}` ended with code {code}")


def listening(process, port):
    """Waits until `process` takes connections."""
    end = time.monotonic() + 30
    while True:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > end:
            sys.exit(f"release/breadth.py: `{process.args[0]}` does not listen")
        time.sleep(0.01)


def token(url):
    """A token for one URL, as an issuer would make it."""

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    now = int(time.time())
    claims = {"iss": "https://issuer.test.example/", "aud": "sluicegate", "iat": now, "exp": now + 3600, "url": url}
    head = {"alg": "HS256", "kid": "k1"}
    signed = b".".join(part(json.dumps(each, separators=(",", ":")).encode()) for each in (head, claims))
    return (signed + b"." + part(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest())).decode()


def ask(answer, count, protocol, url, *headers):
    """`count` requests, every one of which has to be answered with a status of the class `answer`, such as 2."""
    command = ["h2load", "-n", str(count), "-c", "8", *protocol]
    if protocol is H2:
        command += ["-m", "8"]
    for header in headers:
        command += ["-H", header]
    said = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said)
    got = dict(zip((2, 3, 4, 5), map(int, codes.groups()))) if codes else {}
    name = " ".join(["HTTP/1.1" if protocol is H1 else "HTTP/2", *headers])
    print(f"    {count:>6} {name}: {answer}xx", flush=True)
    if got.get(answer) != count:
        sys.exit(f"release/breadth.py: {name}: wanted {count} answers {answer}xx, got:\n{said}")


def main(program):
    with tempfile.TemporaryDirectory() as name:
        folder, upstream, own = Path(name), free_port(), free_port()
        # nginx's worker is another user when this one is root.
        folder.chmod(0o755)
        for each in ("policy", "files", "tmp"):
            (folder / each).mkdir()
        for file, size in SIZES.items():
            with open(folder / "files" / file, "wb") as opened:
                opened.truncate(size)
        (folder / "policy/profile.toml").write_text(POLICY)
        (folder / "policy/profile.secret").write_text(SECRET)
        (folder / "policy/profile.secret").chmod(0o600)
        (folder / "sluicegate.toml").write_text(CONFIG.format(upstream=upstream, own=own))
        (folder / "nginx.conf").write_text(NGINX.format(upstream=upstream))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICEGATE_")}
        environment["PATH"] += ":/usr/sbin"
        base = f"http://127.0.0.1:{own}"
        quiet = {"cwd": folder, "env": environment, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        with (
            running(["nginx", "-p", name, "-c", "nginx.conf"], **quiet) as nginx,
            running([program, "serve"], stderr=subprocess.DEVNULL, **quiet) as gateway,
        ):
            listening(nginx, upstream)
            listening(gateway, own)

            def link(file, *more):
                command = [program, "mint", "--base", base, "--url", f"{FILES}/{file}", *more]
                minted = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
                return minted.stdout.strip()

            small, named = link("small"), link("middle", "--filename", "Größe und Übersicht.mp4")
            ask(2, 30000, H2, small)
            ask(2, 6000, H2, named)
            ask(2, 16, H2, link("large"))
            ask(2, 5000, H1, named)
            ask(2, 5000, H2, small, ":method: HEAD")
            bearer = f"{base}/?url={FILES}/small&token={token(FILES + '/small')}"
            ask(2, 20000, H1, bearer)
            ask(2, 5000, H2, bearer)
            ask(2, 10000, H1, named, "range: bytes=1000-20999")
            ask(2, 5000, H2, named, "range: bytes=-500")
            ask(2, 5000, H1, small, 'if-none-match: "another"')
            ask(4, 5000, H1, small.replace("sig=", "sig=A"))
            ask(4, 5000, H1, bearer[:-2])
            ask(4, 2000, H1, f"{base}/?url={FILES}/small")
            ask(2, 2000, H1, f"{base}/healthz")


if len(sys.argv) != 2:
    sys.exit("usage: release/breadth.py PROGRAM")
if not os.access(sys.argv[1], os.X_OK):
    sys.exit(f"release/breadth.py: `{sys.argv[1]}` is no program; next: release/train builds one that counts")
main(os.path.abspath(sys.argv[1]))
