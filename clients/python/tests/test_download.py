"""Downloads against a server that breaks off, lies and changes its mind: a whole file, or none and an error."""

import hashlib
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from hostile import Hostile, answer, chunked, digest

from sluicegate import Downloaded, DownloadError, download

BODY = bytes(range(256)) * 1200
OTHER = BODY[::-1]
HALF = len(BODY) // 2
TAG = '"v1"'


def part(first: int, body: bytes = BODY, tag: str = TAG, **fields: Any) -> bytes:
    content_range = fields.pop("content_range", f"bytes {first}-{len(body) - 1}/{len(body)}")
    return answer(body[first:], "206 Partial Content", etag=tag, content_range=content_range, **fields)


def cut(at: int = HALF, **fields: Any) -> bytes:
    """The head promises all, the body ends early."""
    return answer(BODY[:at], length=len(BODY), **{"etag": TAG, **fields})


def chunked_cut(at: int, **fields: str) -> bytes:
    return chunked([BODY[:at]], ended=False, etag=TAG, **fields)


class Case(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.target = self.folder / "a.bin"
        patch = mock.patch("sluicegate._download.time.sleep")
        self.pauses = patch.start()
        self.addCleanup(patch.stop)

    def fetch(self, server: Hostile, **options: Any) -> Downloaded:
        options.setdefault("destination", self.target)
        return download(server.link, **options)

    def refused(self, code: str, call: Callable[[], object]) -> DownloadError:
        """No file may be there afterwards, whatever the server sent."""
        with self.assertRaises(DownloadError) as caught:
            call()
        self.assertEqual(caught.exception.code, code, caught.exception)
        self.assertNotIn("sig=", str(caught.exception))
        self.assertFalse(self.target.exists())
        return caught.exception

    def whole(self, result: Downloaded, resumed: bool, body: bytes = BODY) -> None:
        self.same(result.path.read_bytes(), body)
        self.assertEqual((result.bytes, result.resumed), (len(body), resumed))
        self.assertEqual([file.name for file in self.folder.iterdir()], [result.path.name])

    def same(self, found: bytes, expected: bytes) -> None:
        # assertEqual would compute a difference of 300 kB, for minutes.
        self.assertTrue(found == expected, f"{len(found)} bytes, not the {len(expected)} expected")

    def left(self) -> bytes:
        return (self.folder / "a.bin.part").read_bytes()


class Whole(Case):
    def test_length_and_type(self) -> None:
        with Hostile(answer(BODY, content_type="text/plain")) as server:
            seen: list[tuple[int, int | None]] = []
            result = self.fetch(server, progress=lambda done, total: seen.append((done, total)))
        self.whole(result, False)
        self.assertEqual(result.type, "text/plain")
        self.assertEqual(seen[-1], (len(BODY), len(BODY)))
        self.assertEqual(server.requests[0]["accept-encoding"], "identity")

    def test_chunked_with_the_gateways_own_length(self) -> None:
        with Hostile(chunked([BODY[:9], BODY[9:]], x_sluicegate_length=str(len(BODY)))) as server:
            self.whole(self.fetch(server), False)

    def test_empty(self) -> None:
        with Hostile(answer(b"", etag=TAG)) as server:
            self.whole(self.fetch(server), False, b"")

    def test_the_callers_digest_and_the_servers(self) -> None:
        hexed = hashlib.sha256(BODY).hexdigest().upper()
        with Hostile(answer(BODY, repr_digest=f"sha-512=:AA==:, {digest(BODY)}")) as server:
            self.whole(self.fetch(server, sha256=hexed), False)

    def test_no_length_is_enough_with_a_digest(self) -> None:
        with Hostile(answer(BODY, length=None, repr_digest=digest(BODY))) as server:
            self.whole(self.fetch(server), False)


class Resumed(Case):
    def test_where_it_broke(self) -> None:
        with Hostile(cut(), part(HALF)) as server:
            self.whole(self.fetch(server), True)
        self.assertEqual((server.requests[1]["range"], server.requests[1]["if-range"]), (f"bytes={HALF}-", TAG))

    def test_after_a_reset(self) -> None:
        # A reset destroys what is in flight, so the second answer goes by what arrived.
        def rest(request: dict[str, str]) -> bytes:
            return part(int(request["range"][6:-1])) if "range" in request else answer(BODY)

        with Hostile(cut(), rest, reset=True) as server:
            result = self.fetch(server)
        self.same(result.path.read_bytes(), BODY)
        self.assertEqual(len(server.requests), 2)

    def test_many_cuts_count_as_progress(self) -> None:
        step = len(BODY) // 8
        cuts = [part(n * step)[: -len(BODY) + (n + 1) * step] for n in range(1, 7)]
        with Hostile(cut(step), *cuts, part(7 * step)) as server:
            self.whole(self.fetch(server, attempts=2), True)

    def test_by_a_later_process(self) -> None:
        with Hostile(cut(), part(HALF)) as server:
            self.refused("incomplete", lambda: self.fetch(server, attempts=1))
            self.same(self.left(), BODY[:HALF])
            # The note holds no credential, and a link made anew is the same file.
            self.assertNotIn("sig", (self.folder / "a.bin.part.json").read_text())
            link = server.link.replace("exp=1&sig=s", "exp=2&sig=t")
            self.whole(download(link, self.target), True)

    def test_into_a_folder_the_name_is_known_from_the_answer(self) -> None:
        named: dict[str, Any] = {"content_disposition": 'attachment; filename="a.bin"'}
        with Hostile(cut(**named), answer(BODY, etag=TAG, **named), part(HALF, **named)) as server:
            self.refused("incomplete", lambda: self.fetch(server, destination=self.folder, attempts=1))
            self.whole(self.fetch(server, destination=self.folder), True)
        self.assertEqual([request.get("range") for request in server.requests], [None, None, f"bytes={HALF}-"])

    def test_all_was_there_but_not_its_name(self) -> None:
        with Hostile(cut(), part(len(BODY) - 1)) as server:
            self.refused("incomplete", lambda: self.fetch(server, attempts=1))
            with (self.folder / "a.bin.part").open("ab") as file:
                file.write(BODY[HALF:])
            self.whole(self.fetch(server), True)

    def test_a_200_with_the_same_tag_is_skipped_up_to_what_is_there(self) -> None:
        with Hostile(cut(), answer(BODY, etag=TAG)) as server:
            self.whole(self.fetch(server), True)

    def test_a_200_that_breaks_before_it_brings_anything_new(self) -> None:
        with Hostile(cut(), cut(HALF - 9), part(HALF)) as server:
            self.whole(self.fetch(server), True)


class NeverAMixture(Case):
    def test_the_file_has_changed(self) -> None:
        for changed in (
            answer(OTHER, etag='"v2"'),
            answer(OTHER),
            answer(OTHER, etag=f"W/{TAG}"),
            answer(OTHER + b"x", etag=TAG),
        ):
            with self.subTest(changed=changed[:120]), Hostile(cut(), changed) as server:
                result = self.fetch(server, overwrite=True)
                self.same(result.path.read_bytes(), changed.partition(b"\r\n\r\n")[2])
                self.assertFalse(result.resumed)

    def test_a_range_that_does_not_fit_is_not_used(self) -> None:
        size = len(BODY)
        for wrong in (
            part(HALF, OTHER, '"v2"'),
            part(HALF, OTHER, f"W/{TAG}"),
            part(HALF - 1),
            part(HALF + 1),
            part(HALF, OTHER, content_range=f"bytes {HALF}-{size - 1}/{size + 1}"),
            part(HALF, OTHER, content_range=f"bytes {HALF}-{size}/{size}"),
            part(HALF, OTHER, content_range=f"bytes {HALF}-{size - 2}/{size}"),
            part(HALF, OTHER, content_range=f"bytes={HALF}-{size - 1}/{size}"),
            part(HALF, OTHER, content_range="bytes */*"),
            part(HALF, OTHER, x_sluicegate_length=str(size + 1)),
            answer(OTHER[HALF:], "206 Partial Content", etag=TAG, content_type="multipart/byteranges; boundary=x"),
        ):
            with self.subTest(wrong=wrong[:160]), Hostile(cut(), wrong, answer(BODY, etag=TAG)) as server:
                result = self.fetch(server, overwrite=True)
                self.same(result.path.read_bytes(), BODY)
                self.assertFalse(result.resumed)
                self.assertNotIn("range", server.requests[2])

    def test_a_206_that_nobody_asked_for(self) -> None:
        with Hostile(part(0), answer(BODY)) as server:
            self.whole(self.fetch(server), False)

    def test_the_file_has_shrunk(self) -> None:
        gone = answer(status="416 Range Not Satisfiable", content_range="bytes */9")
        with Hostile(cut(), gone, answer(b"ninebytes", etag='"v2"')) as server:
            self.whole(self.fetch(server), False, b"ninebytes")

    def test_a_weak_tag_resumes_nothing(self) -> None:
        with Hostile(cut(etag=f"W/{TAG}"), answer(BODY, etag=f"W/{TAG}")) as server:
            self.whole(self.fetch(server), False)
        self.assertNotIn("range", server.requests[1])

    def test_another_file_of_the_same_name_and_tag(self) -> None:
        with Hostile(cut(), answer(OTHER, etag=TAG)) as server:
            self.refused("incomplete", lambda: self.fetch(server, attempts=1))
            other = server.link.replace("files.example%2Fa", "files.example%2Fb")
            self.whole(download(other, self.target), False, OTHER)
        self.assertNotIn("range", server.requests[1])

    def test_a_mixture_under_one_tag_shows_in_the_digest(self) -> None:
        lying: dict[str, Any] = {"repr_digest": digest(OTHER)}
        with Hostile(cut(), part(HALF, OTHER, **lying), answer(OTHER, etag=TAG, **lying)) as server:
            self.whole(self.fetch(server), False, OTHER)


class NeverTruncated(Case):
    def test_cut_short_every_time(self) -> None:
        for short in (cut(), chunked_cut(HALF), chunked([BODY[:HALF]], x_sluicegate_length=str(len(BODY)))):
            with self.subTest(short=short[:120]), Hostile(short) as server:
                self.refused("incomplete", lambda: self.fetch(server, attempts=1))

    def test_no_length_at_all(self) -> None:
        with Hostile(answer(BODY, length=None)) as server:
            self.assertIn("sha256", str(self.refused("incomplete", lambda: self.fetch(server))))
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_range_without_the_whole_length_proves_no_end(self) -> None:
        open_end = part(HALF, content_range=f"bytes {HALF}-{len(BODY) - 1}/*")
        with Hostile(chunked_cut(HALF), open_end, chunked([BODY], etag=TAG)) as server:
            self.whole(self.fetch(server), False)

    def test_two_lengths_and_too_long(self) -> None:
        with Hostile(answer(BODY, x_sluicegate_length="5")) as server:
            self.refused("unexpected_answer", lambda: self.fetch(server, attempts=1))
        with Hostile(chunked([BODY, b"x"], x_sluicegate_length=str(len(BODY)))) as server:
            self.refused("length_mismatch", lambda: self.fetch(server))

    def test_a_wrong_digest(self) -> None:
        wrong: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"sha256": "0" * 64}, {}),
            ({}, {"repr_digest": digest(OTHER)}),
        ]
        for options, fields in wrong:
            with self.subTest(options=options), Hostile(answer(BODY, **fields)) as server:
                self.refused("digest_mismatch", lambda: self.fetch(server, **options))
            self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_coded_body_is_another_file(self) -> None:
        with Hostile(answer(BODY, content_encoding="gzip")) as server:
            self.refused("unexpected_answer", lambda: self.fetch(server))


if __name__ == "__main__":
    unittest.main()
