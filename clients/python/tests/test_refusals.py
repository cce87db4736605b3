"""What is refused, when to ask again, under which name a file is saved, and what goes to which server."""

import hashlib
import json
import os
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
from email.message import Message
from email.utils import formatdate
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.request import Request

from hostile import LINK, Hostile, answer
from test_download import BODY, Case, cut

from sluicegate import DownloadError, download
from sluicegate._headers import safe_name, sha256_of_whole, signed_name
from sluicegate._http import _body, _Redirects
from sluicegate._part import Part


def problem(status: str, code: str = "rate_limited", **fields: Any) -> bytes:
    document = {"status": 0, "code": code, "title": "Too\u202e many", "detail": "wait\n", "request_id": "r-1"}
    return answer(json.dumps(document).encode(), status, content_type="application/problem+json", **fields)


class Refused(Case):
    def test_the_problem_document_is_the_error(self) -> None:
        with Hostile(problem("403 Forbidden", "link_expired")) as server:
            error = self.refused("link_expired", lambda: self.fetch(server))
        self.assertEqual((error.status, error.request_id, error.retry_after), (403, "r-1", None))
        self.assertEqual(str(error), "the download was refused with 403 `link_expired`: Too\\u202e many: wait\\n")
        self.assertEqual((len(server.requests), list(self.folder.iterdir())), (1, []))

    def test_a_refusal_without_a_document(self) -> None:
        for body in (b"<html>", b"[]", b'{"code": 7}', b"[" * 60_000, b""):
            with self.subTest(body=body[:20]), Hostile(answer(body, "403 Forbidden", x_request_id="r-2")) as server:
                error = self.refused("http_403", lambda: self.fetch(server))
                self.assertEqual(error.request_id, "r-2")

    def test_a_refusal_that_drips_or_never_ends_is_left(self) -> None:
        drops = mock.Mock(read1=mock.Mock(return_value=b"x"))
        with mock.patch("sluicegate._http.time.monotonic", side_effect=range(1000)):
            self.assertEqual(_body(drops, 30), b"x" * 29)
        flood = mock.Mock(read1=mock.Mock(side_effect=lambda most: b"x" * min(most, 1000)))
        self.assertEqual(len(_body(flood, 30)), 65_536)

    def test_retry_after_is_honoured(self) -> None:
        later = formatdate(time.time() + 60, usegmt=True)
        limits = [problem("429 Too Many", retry_after="7"), problem("503 No", "unavailable", retry_after=later)]
        seen: list[tuple[int, str | None]] = []
        with Hostile(*limits, answer(BODY, ratelimit='"key";r=0;t=1')) as server:
            self.whole(self.fetch(server, on_answer=lambda status, h: seen.append((status, h["RateLimit"]))), False)
        first, second = (call.args[0] for call in self.pauses.call_args_list)
        self.assertEqual(first, 7)
        self.assertTrue(50 < second <= 60, second)
        self.assertEqual(seen, [(429, None), (503, None), (200, '"key";r=0;t=1')])

    def test_but_only_within_its_bound_and_so_many_times(self) -> None:
        with Hostile(problem("429 Too Many Requests", "quota_exceeded", retry_after="3600")) as server:
            error = self.refused("quota_exceeded", lambda: self.fetch(server))
            self.assertEqual((error.retry_after, self.pauses.call_count), (3600, 0))
        with Hostile(*[problem("429 Too Many Requests", retry_after="1")] * 3) as server:
            self.refused("rate_limited", lambda: self.fetch(server, attempts=3))
            self.assertEqual((len(server.requests), self.pauses.call_count), (3, 2))

    def test_nobody_answers(self) -> None:
        with Hostile() as server:
            pass
        self.refused("unreachable", lambda: self.fetch(server, attempts=2))
        self.assertEqual(self.pauses.call_count, 1)

    def test_what_is_no_link(self) -> None:
        for link in ("file:///etc/passwd", "ftp://a.example/", "gateway.example/?url=x", "https://", "http://a/?b c"):
            with self.subTest(link), self.assertRaises(ValueError) as caught:
                download(link, self.target)
            self.assertNotIn(link, str(caught.exception))
        wrong: list[dict[str, Any]] = [{"sha256": "abc"}, {"attempts": 0}, {"headers": {"Range": "bytes=0-"}}]
        for options in wrong:
            with self.subTest(options=options), self.assertRaises(ValueError):
                download("http://127.0.0.1/?url=x", self.target, **options)
        for destination in (f"{self.folder}/none/a", f"{self.folder}/none/"):
            with self.assertRaises(ValueError) as caught:
                download("http://127.0.0.1/?url=x", destination)
            text = f"destination `{destination}`: there is no such folder; make it first"
            self.assertEqual(str(caught.exception), text)


class Names(Case):
    def test_a_malicious_name_stays_in_the_folder(self) -> None:
        for field, name in (
            ('attachment; filename="../../x"', "x"),
            ("attachment; filename*=UTF-8''..%2F..%2Fx", "x"),
            ('attachment; filename="..\\\\..\\\\x"', "x"),
            ('attachment; filename="/etc/passwd"', "passwd"),
            ('attachment; filename=".bashrc"', "_bashrc"),
            ('attachment; filename=".."', "download"),
            ('attachment; filename="a\\"b.txt"', 'a"b.txt'),
            ("attachment; filename=\"f.txt\"; filename*=UTF-8''%D0%B4%20%E2%82%AC.txt", "д €.txt"),
            ("attachment; filename*=UTF-8''%FF; filename=plain.txt", "plain.txt"),
            ("attachment; filename*=UTF-8''a%E2%80%AEfdp.exe", "afdp.exe"),
            ("attachment; filename*=UTF-8''a%00%0Ab", "ab"),
            ("inline", "download"),
        ):
            with self.subTest(field), Hostile(answer(BODY, content_disposition=field)) as server:
                result = download(server.link, self.folder)
                self.assertEqual((result.filename, result.path), (name, self.folder / name))
                self.whole(result, False)
                result.path.unlink()

    def test_windows_and_long_names(self) -> None:
        for name, safe in (("a:b?.txt", "a_b_.txt"), ("NUL.txt", "_NUL.txt"), ("a. .", "a"), ("com1", "_com1")):
            self.assertEqual(safe_name(name, windows=True), safe)
        long = safe_name("я" * 300 + ".tar.gz")
        self.assertTrue(len(long.encode()) in (254, 255) and long.endswith("я.gz"), long)
        with Hostile(answer(BODY, content_disposition=f"attachment; filename*=UTF-8''{'a' * 255}")) as server:
            self.whole(download(server.link, self.folder), False)

    def test_fields_that_lie_are_not_heard(self) -> None:
        message = Message()
        message["repr-digest"] = "sha-256=:AA==:"
        self.assertIsNone(sha256_of_whole(message))
        self.assertIsNone(signed_name(message))

    def test_an_existing_file_stays(self) -> None:
        self.target.write_bytes(b"mine")
        with Hostile(answer(BODY, content_disposition="attachment; filename=a.bin"), answer(BODY)) as server:
            for destination in (self.target, self.folder):
                with self.assertRaises(Exception) as caught:
                    self.fetch(server, destination=destination)
                self.assertEqual(getattr(caught.exception, "code", None), "file_exists")
                text = "`a.bin` is there already; choose another destination, or give overwrite=True"
                self.assertEqual(str(caught.exception), text)
                self.assertEqual(self.target.read_bytes(), b"mine")
            self.whole(self.fetch(server, overwrite=True), False)

    def test_a_file_that_appears_meanwhile_stays(self) -> None:
        with Hostile(answer(BODY)) as server:
            appear = lambda done, total: self.target.write_bytes(b"mine")
            with self.assertRaises(Exception) as caught:
                self.fetch(server, progress=appear)
        self.assertEqual(getattr(caught.exception, "code", None), "file_exists")
        self.assertEqual(self.target.read_bytes(), b"mine")

    def test_two_at_once_do_not_write_into_one_file(self) -> None:
        part = Part(self.target)
        self.addCleanup(part.close)
        with Hostile(answer(BODY)) as server:
            self.refused("busy", lambda: self.fetch(server))
        self.assertEqual(server.requests, [])

    def test_no_link_is_followed_for_the_part(self) -> None:
        victim = self.folder / "victim"
        victim.write_bytes(b"mine")
        part, note = self.folder / "a.bin.part", self.folder / "a.bin.part.json"
        ours = json.dumps({"source": "", "tag": None, "length": None})
        for path, make in ((part, "symlink"), (part, "link"), (part, "mkfifo"), (note, "symlink"), (note, "link")):
            with self.subTest(path=path, make=make), Hostile(answer(BODY, etag='"v1"')) as server:
                if path is part:
                    note.write_text(ours)
                getattr(os, make)(*(path,) if make == "mkfifo" else (victim, path))
                error = self.refused("file_exists", lambda: self.fetch(server))
                self.assertIn("move it away", str(error))
                self.assertEqual((victim.read_bytes(), server.requests), (b"mine", []))
                for path in (part, note):
                    path.unlink(missing_ok=True)

    def test_no_link_is_followed_for_the_note(self) -> None:
        victim = self.folder / "victim"
        victim.write_bytes(b"mine")
        (self.folder / "a.bin.part.json.new").symlink_to(victim)
        with Hostile(cut(), answer(BODY, etag='"v2"')) as server:
            self.fetch(server)
        self.assertEqual(victim.read_bytes(), b"mine")
        found = sorted(file.name for file in self.folder.iterdir())
        self.assertEqual(found, ["a.bin", "a.bin.part.json.new", "victim"])

    def test_the_users_own_part_stays(self) -> None:
        named = answer(BODY, content_disposition="attachment; filename=a.bin")
        for own, text in (("a.bin.part", "mine"), ("a.bin.part", ""), ("a.bin.part.json", "{}")):
            (self.folder / own).write_text(text)
            for destination in (self.target, self.folder):
                with self.subTest(own=own, destination=destination), Hostile(named) as server:
                    error = self.refused("file_exists", lambda: self.fetch(server, destination=destination))
                self.assertIn(f"`{own}` is there", str(error))
                self.assertEqual([file.name for file in self.folder.iterdir()], [own])
                self.assertEqual((self.folder / own).read_text(), text)
            (self.folder / own).unlink()

    def test_a_process_that_ended_anywhere_leaves_what_is_ours(self) -> None:
        # Between the note and the part, between the part and its first byte, and between the two names of the whole.
        note, part = self.folder / "a.bin.part.json", self.folder / "a.bin.part"
        for names in ((note,), (note, part), (note, part, self.target)):
            note.write_text(json.dumps({"source": "", "tag": None, "length": None}))
            for name in names[1:]:
                name.hardlink_to(part) if part.exists() else name.write_bytes(b"")
            with self.subTest(names=names), Hostile(answer(BODY)) as server:
                self.whole(self.fetch(server, overwrite=True), False)
            self.target.unlink()

    def test_a_process_that_ended_over_its_note_leaves_nothing_for_ever(self) -> None:
        with mock.patch("sluicegate._part.os.replace", side_effect=KeyboardInterrupt), Hostile(answer(BODY)) as server:
            # As if the process had ended there: nothing of it may tidy up.
            with mock.patch.object(Path, "unlink"), self.assertRaises(KeyboardInterrupt):
                self.fetch(server)
        (draft,) = self.folder.iterdir()
        self.assertTrue(draft.name.startswith(".sluicegate-"))
        draft.write_bytes(b"x" * 10_000)
        with Hostile(cut(), answer(BODY)) as server:
            self.whole(self.fetch(server), False)
        self.assertEqual(list(self.folder.iterdir()), [self.target])

    def test_the_users_own_draft_stays(self) -> None:
        draft = self.folder / f".sluicegate-{hashlib.sha256(b'a.bin.part.json').hexdigest()[:32]}"
        victim = self.folder / "victim"
        victim.write_bytes(b"mine")
        draft.hardlink_to(victim)
        with Hostile(answer(BODY)) as server:
            self.assertIn("move it away", str(self.refused("file_exists", lambda: self.fetch(server))))
        self.assertEqual((victim.read_bytes(), server.requests), (b"mine", []))

    def test_a_server_names_no_part(self) -> None:
        for name, safe in (
            ("a.part", "a_part"),
            ("a.PART", "a_PART"),
            ("a.part.json", "a_part.json"),
            ("a.Part.Etag", "a_Part.Etag"),
            ("a.part.json.new", "a.part.json_new"),
            ("a" * 250 + ".part." + "b" * 40, "a" * 250 + "_part"),
            ("a.parts", "a.parts"),
            (".part", "_part"),
        ):
            self.assertEqual(safe_name(name), safe)


class Servers(Case):
    def test_a_redirect_takes_no_field_of_the_caller_elsewhere(self) -> None:
        with Hostile(cut(), answer(BODY, etag='"v2"')) as other:
            moved = answer(status="307 Temporary Redirect", location=f"{other.base}/big")
            with Hostile(moved, moved) as server:
                self.whole(self.fetch(server, headers={"x-sluicegate-token": "t"}), False)
        self.assertEqual(server.requests[0]["x-sluicegate-token"], "t")
        self.assertEqual([request.get("x-sluicegate-token") for request in other.requests], [None, None])
        # The range goes along, as it is the download's own.
        self.assertIn("range", other.requests[1])

    def test_within_one_origin_it_does(self) -> None:
        script = (answer(status="302 Found", location="/big"), answer(BODY))
        with Hostile(*script) as server:
            self.whole(self.fetch(server, headers={"x-sluicegate-token": "t"}), False)
        self.assertEqual(server.requests[1]["x-sluicegate-token"], "t")

    def test_never_from_https_to_http(self) -> None:
        request = Request("https://gateway.example/?url=x")
        with self.assertRaises(DownloadError) as caught:
            _Redirects({}).redirect_request(request, BytesIO(), 307, "", Message(), "http://gateway.example/?url=x")
        self.assertEqual(caught.exception.code, "unexpected_answer")

    def test_never_to_ftp(self) -> None:
        with Hostile(answer(status="302 Found", location="ftp://127.0.0.1:1/a")) as server:
            self.refused("unexpected_answer", lambda: self.fetch(server))

    def test_round_and_round(self) -> None:
        with Hostile(*[answer(status="302 Found", location=LINK)] * 9) as server:
            self.refused("http_302", lambda: self.fetch(server))

    def test_the_environments_proxy(self) -> None:
        with Hostile(answer(BODY)) as proxy:
            with mock.patch.dict(os.environ, {"http_proxy": proxy.base, "no_proxy": ""}):
                self.whole(download("http://gateway.invalid/?url=x", self.target), False)
        self.assertEqual(proxy.requests[0][":path"], "http://gateway.invalid/?url=x")

    def test_an_untrusted_certificate(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            key, certificate = Path(folder, "key.pem"), Path(folder, "cert.pem")
            make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
            make += f" -addext subjectAltName=DNS:localhost -keyout {key} -out {certificate}"
            subprocess.run(make.split(), check=True, capture_output=True)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
        listener = socket.create_server(("127.0.0.1", 0))
        heard: list[bytes] = []

        def serve() -> None:
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as secured:
                    heard.append(secured.recv(100))
            except OSError:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        link = f"https://localhost:{listener.getsockname()[1]}/?url=x"
        self.refused("untrusted_certificate", lambda: download(link, self.target))
        thread.join()
        listener.close()
        self.assertEqual(heard, [])


if __name__ == "__main__":
    unittest.main()
