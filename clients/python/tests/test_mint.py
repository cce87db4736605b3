"""Links against the project's vectors; what options may be; that no text form shows a secret."""

import copy
import itertools
import json
import pickle
import subprocess
import sys
import threading
import traceback
import unittest
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Any

from sluicegate import MintError, Signer, download

VECTORS = Path(__file__).resolve().parents[3] / "tests" / "vectors"
SECRET = "sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
URL = "https://files.example/a"
BASE = "https://gateway.example"
NOW = 1_800_000_000
ENDS = {"exp", "expires_in", "align_to"}
# IDNA is left to the gateway, which knows it whole.
LEFT_TO_THE_GATEWAY = "idna"


def vectors(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))["vectors"]
    return found


def secrets() -> dict[str, str]:
    tenants = json.loads((VECTORS / "keys.json").read_text(encoding="utf-8"))["tenants"]
    return {key["kid"]: key["secret"] for tenant in tenants for key in tenant["keys"]}


class Vectors(unittest.TestCase):
    """By way of the driver, so that what the project's own tests speak to is what is tested."""

    def setUp(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("driver.py"))]
        self._driver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(self._driver.wait)
        self._secrets = secrets()

    def tearDown(self) -> None:
        assert self._driver.stdin and self._driver.stdout
        self._driver.stdin.close()
        self.assertEqual(self._driver.stdout.read(), b"")
        self._driver.stdout.close()

    def mint(self, kid: str, secret: str | None, now: int, options: dict[str, Any]) -> dict[str, Any]:
        request = {"base": BASE, "kid": kid, "secret": secret, "now": now, "options": options}
        assert self._driver.stdin and self._driver.stdout
        self._driver.stdin.write(json.dumps(request).encode() + b"\n")
        self._driver.stdin.flush()
        reply: dict[str, Any] = json.loads(self._driver.stdout.readline())
        return reply

    def test_what_is_signed(self) -> None:
        for vector in vectors("mint"):
            params = dict(vector["params"])
            options = {"not_before" if name == "nbf" else name: value for name, value in params.items()}
            options |= {name: int(options[name]) for name in ("exp", "not_before") if name in options}
            with self.subTest(vector["name"]):
                self.assertEqual(
                    self.mint(vector["kid"], self._secrets[vector["kid"]], NOW, options),
                    {
                        "link": f"{BASE}/?{vector['query']}",
                        "query": vector["query"],
                        "string_to_sign": vector["string_to_sign"],
                        "signature": vector["sig"],
                        "exp": int(params["exp"]),
                    },
                )

    def test_what_is_refused(self) -> None:
        for vector in vectors("refuse"):
            if vector["deep"] == LEFT_TO_THE_GATEWAY:
                continue
            secret = vector.get("secret", self._secrets.get(vector.get("secret_of", vector["kid"])))
            with self.subTest(vector["name"]):
                reply = self.mint(vector["kid"], secret, vector.get("now", NOW), vector["options"])
                self.assertEqual(reply.get("parameter"), vector["parameter"], reply)
                text = reply["error"]
                self.assertTrue(text.startswith(vector["parameter"]) and text.isprintable(), text)
                if secret:
                    self.assertNotIn(secret.strip(), text)

    def test_when_links_end(self) -> None:
        for vector in vectors("expiry"):
            options: dict[str, Any] = {name: vector[name] for name in vector.keys() & ENDS}
            options["url"] = URL
            with self.subTest(vector["name"]):
                reply = self.mint("0", self._secrets["0"], vector["now"], options)
                self.assertEqual(reply["exp"], vector["expect"])


class Options(unittest.TestCase):
    def setUp(self) -> None:
        self.signer = Signer(BASE, "k", SECRET, now=lambda: NOW + 0.9)

    def test_spans_and_moments_round_up(self) -> None:
        half = timedelta(seconds=90, milliseconds=500)
        self.assertEqual(self.signer.mint(URL, expires_in=half).exp, NOW + 91)
        moment = datetime.fromtimestamp(NOW, timezone(timedelta(hours=5, minutes=30))) + half
        minted = self.signer.mint(URL, exp=moment, not_before=moment - timedelta(seconds=60))
        self.assertEqual((minted.exp, "&nbf=1800000031&" in minted.query), (NOW + 91, True))

    def test_moments_that_mean_nothing(self) -> None:
        faults: list[dict[str, Any]] = [
            {"exp": datetime(2027, 1, 1)},
            {"not_before": datetime(2027, 1, 1)},
            {"exp": timedelta(hours=1)},
            {"exp": datetime(1969, 1, 1, tzinfo=timezone.utc)},
            {"expires_in": timedelta(0)},
            {"expires_in": datetime.now(timezone.utc)},
            {"align_to": timedelta(minutes=5)},
        ]
        for options in faults:
            with self.subTest(options=options), self.assertRaises(MintError) as caught:
                self.signer.mint(URL, **options)
            self.assertEqual(caught.exception.parameter, next(iter(options)))

    def test_milliseconds_are_told_as_what_they_are(self) -> None:
        given = {"exp": 10**12, "not_before": 1_800_003_600_000, "expires_in": 10**12}
        for option, value in {**given, "align_to": 10**12}.items():
            for number, told in ((value, option in ("exp", "not_before")), (10**13, False)):
                options: dict[str, Any] = {option: number}
                with self.subTest(options=options), self.assertRaises(MintError) as caught:
                    self.signer.mint(URL, **options)
                text = f"{option} `{number}`: that looks like milliseconds; divide by 1000"
                self.assertEqual(str(caught.exception) == text, told, caught.exception)

    def test_half_a_surrogate_pair(self) -> None:
        for option in ("url", "filename", "id", "disposition", "ip"):
            options: dict[str, Any] = {"url": URL, option: "https://a.example/\ud800"}
            with self.subTest(option), self.assertRaises(MintError) as caught:
                self.signer.mint(options.pop("url"), **options)
            self.assertEqual(caught.exception.parameter, option)
            str(caught.exception).encode()
        for arguments, parameter in (((BASE, "\ud800", SECRET), "kid"), ((BASE, "k", SECRET + "\udfff"), "secret")):
            with self.assertRaises(MintError) as caught:
                Signer(*arguments)
            self.assertEqual(caught.exception.parameter, parameter)

    def test_what_is_signed_is_what_is_sent(self) -> None:
        class Other(str):
            def __str__(self) -> str:
                return "other"

            def __format__(self, _: str) -> str:
                return "other"

            def encode(self, *_: Any) -> bytes:
                return b"other"

        class Disposition(Other, Enum):
            INLINE = "inline"

        class Eternal(int):
            def __le__(self, _: object) -> bool:
                return True

            __ge__ = __int__ = __le__  # type: ignore[assignment]

        texts: dict[str, Any] = {"filename": "a", "id": "i", "ip": "::1"}
        wanted = Signer(BASE, "k", SECRET).mint(URL, exp=5, disposition="inline", **texts)
        odd: dict[str, Any] = {name: Other(value) for name, value in texts.items()}
        signer = Signer(Other(BASE), Other("k"), Other(SECRET))
        minted = signer.mint(Other(URL), exp=Eternal(5), disposition=Disposition.INLINE, **odd)
        self.assertEqual(minted, wanted)
        self.assertEqual({type(value) for value in vars(minted).values()}, {str, int})
        bad: list[dict[str, Any]] = [{"exp": Eternal(-5)}, {"filename": Other("a/b")}, {"id": Other("\n")}]
        for options in bad:
            with self.subTest(options=options), self.assertRaises(MintError) as caught:
                signer.mint(URL, **options)
            self.assertNotIn("other", str(caught.exception))

    def test_a_clock_that_gives_no_time(self) -> None:
        for now in (-5000, float("nan"), float("inf"), 1e300, None, "1", -0.5):
            with self.subTest(now=now), self.assertRaises(MintError) as caught:
                Signer(BASE, "k", SECRET, now=lambda: now).mint(URL)  # type: ignore[arg-type, return-value]
            self.assertEqual(caught.exception.parameter, "now")
        with self.assertRaises(MintError) as caught:
            Signer(BASE, "k", SECRET, now=5)  # type: ignore[arg-type]
        self.assertEqual(caught.exception.parameter, "now")

    def test_numbers_beyond_all_bounds(self) -> None:
        beyond: list[dict[str, Any]] = [
            *({name: 10**5000} for name in ("exp", "expires_in", "not_before", "align_to")),
            *({"expires_in": span} for span in (timedelta.max, timedelta.min)),
            {"exp": 10**5000, "expires_in": 5},
        ]
        for options in beyond:
            with self.assertRaises(MintError) as caught:
                self.signer.mint(URL, **options)
            self.assertEqual(caught.exception.parameter, next(iter(options)))

    def test_an_unknown_option_is_no_option(self) -> None:
        with self.assertRaises(TypeError):
            self.signer.mint(URL, file_name="a")  # type: ignore[call-arg]

    def test_a_link_is_its_text(self) -> None:
        minted = self.signer.mint(URL)
        self.assertEqual(f"{minted}", f"{BASE}/?{minted.query}")
        with self.assertRaises(AttributeError):
            minted.exp = 5  # type: ignore[misc]

    def test_bases(self) -> None:
        for base in ("https://gateway.example", "https://gateway.example/", "HTTP://[::1]:8080", "http://127.0.0.1:80"):
            link = Signer(base, "k", SECRET).mint(URL).link
            self.assertTrue(link.startswith(base.removesuffix("/") + "/?url="), link)
        for base in ("", "gateway.example", "https://g.example/x", "https://g.example?", "https://u:pw@g.example"):
            with self.subTest(base), self.assertRaises(MintError) as caught:
                Signer(base, "k", SECRET)
            self.assertEqual(caught.exception.parameter, "base")
            self.assertNotIn("pw", str(caught.exception))

    def test_threads_share_a_signer(self) -> None:
        alone = self.signer.mint(URL).link
        found: list[str] = []
        links = lambda: found.extend(self.signer.mint(URL).link for _ in range(200))
        work = [threading.Thread(target=links) for _ in range(2)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        self.assertEqual((len(found), set(found)), (400, {alone}))


class Secrecy(unittest.TestCase):
    def test_no_text_form_of_a_signer_shows_the_secret(self) -> None:
        signer = Signer(BASE, "k", SECRET)
        self.assertEqual(repr(signer), f"Signer(base='{BASE}', kid='k')")
        slots = " ".join(repr(getattr(signer, name)) for name in Signer.__slots__)
        for text in (str(signer), f"{signer}", f"{[signer]}", slots):
            self.assertNotIn(SECRET, text)
        for form in (pickle.dumps, copy.copy, copy.deepcopy):
            with self.assertRaises(TypeError):
                form(signer)
        with self.assertRaises(TypeError):
            json.dumps(signer)

    def test_no_error_shows_one(self) -> None:
        for secret in ("tooshort-but-secret", SECRET + "\n", SECRET + "\ud800", "012345678" * 8, b"x" * 40):
            try:
                Signer(BASE, "k", secret)  # type: ignore[arg-type]
            except MintError:
                shown = traceback.format_exc()
            for text in ("tooshort", SECRET, "012345678", "xxx"):
                self.assertNotIn(text, shown)

    def test_a_secret_in_the_kids_place(self) -> None:
        with self.assertRaises(MintError) as caught:
            Signer(BASE, SECRET, SECRET)
        self.assertNotIn(SECRET[:12], str(caught.exception))
        with self.assertRaises(MintError) as caught:
            Signer(BASE, "a-password-of-some-kind", "k")
        self.assertNotIn("password", str(caught.exception))

    def test_a_secret_in_any_other_place(self) -> None:
        for secret in (SECRET, "correct-horse/battery?staple@15'\"é"):
            signer = Signer(BASE, "k", secret)
            places: list[Callable[[Any], object]] = [
                signer.mint,
                *(
                    lambda value, name=name: signer.mint(URL, **{name: value})
                    for name in ("expires_in", "exp", "align_to", "not_before", "filename", "disposition", "id", "ip")
                ),
                lambda value: Signer(value, "demo", secret),
                lambda value: Signer(BASE, value, secret),
            ]
            errors = 0
            values = (secret, f"https://{secret}#", f"/{'x' * 60}{secret}", secret.encode(), [secret], (5, {secret}))
            for place, value in itertools.product(places, values):
                try:
                    place(value)  # As an id or a filename, some of them are what they may be.
                except MintError:
                    shown = traceback.format_exc().rpartition("MintError")[2]
                    errors += 1
                    for piece in (secret[5:20], repr(secret)[6:20], secret[-3:]):
                        self.assertNotIn(piece, shown)
            self.assertGreater(errors, 60)

    def test_a_secret_that_no_signer_knows(self) -> None:
        for call in (
            lambda: Signer(SECRET, "demo", "http://h"),
            lambda: Signer(f"http://{SECRET}/x", "demo", "http://h"),
            lambda: download("http://h/?a", sha256=SECRET),
            lambda: download("http://h/?a", f"/none/{SECRET}/a"),
        ):
            with self.assertRaises(ValueError) as caught:
                call()
            self.assertNotIn(SECRET[5:12], str(caught.exception))
            self.assertIn("sgk1_…", str(caught.exception))

    def test_an_error_shows_no_other_systems_credentials(self) -> None:
        with self.assertRaises(MintError) as caught:
            Signer(BASE, "k", SECRET).mint("https://me:pass@files.example/a?X-Amz-Signature=abc#x")
        self.assertNotIn("pass", str(caught.exception))
        self.assertNotIn("abc", str(caught.exception))


if __name__ == "__main__":
    unittest.main()
