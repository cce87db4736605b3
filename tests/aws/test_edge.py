"""edge/viewer-request.js under njs, the engine of CloudFront Functions, and as the template carries it."""

import json
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from template import EDGE, ROOT, read

REQUEST_ID = "EXAMPLE-request-id"


def headers(*fields: tuple[str, str]) -> dict:
    """Headers as CloudFront hands them over: names in lower case, repeated ones with `multiValue`."""
    given: dict = {}
    for name, value in fields:
        if name in given:
            given[name].setdefault("multiValue", [{"value": given[name]["value"]}]).append({"value": value})
        else:
            given[name] = {"value": value}
    return given


def event(*fields: tuple[str, str], ip: str = "203.0.113.7", method: str = "GET") -> dict:
    return {
        "version": "1.0",
        "context": {"eventType": "viewer-request", "requestId": REQUEST_ID, "distributionId": "EDFDVBD6EXAMPLE"},
        "viewer": {"ip": ip},
        "request": {
            "method": method,
            "uri": "/",
            "querystring": {"url": {"value": "https%3A%2F%2Ffiles.example.com%2Fa"}},
            "headers": headers(("host", "d111111abcdef8.cloudfront.net"), ("user-agent", "curl/8"), *fields),
            "cookies": {},
        },
    }


def run(code: str, *events: dict) -> list[dict]:
    """What the handler returns for each event. Each is judged on its own copy; a throw fails the run."""
    program = (
        f"{code}\n{json.dumps(list(events))}.forEach(function (event) {{\n"
        "    console.log(JSON.stringify(handler(event)));\n});\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.js"
        path.write_text(program, encoding="utf-8")
        done = subprocess.run(["njs", str(path)], capture_output=True, text=True, timeout=60)
    # njs reports a syntax error on standard output, and with success.
    try:
        answers = [json.loads(line) for line in done.stdout.splitlines()]
    except ValueError:
        answers = []
    if done.returncode != 0 or done.stderr or len(answers) != len(events):
        raise AssertionError(f"njs failed:\n{done.stdout}{done.stderr}")
    return answers


def edge(*fields: tuple[str, str], **more: str) -> dict:
    return run(read()["Resources"]["ViewerRequest"]["Properties"]["FunctionCode"], event(*fields, **more))[0]


class TheEdge(unittest.TestCase):
    def test_says_the_clients_address(self) -> None:
        for address in ("203.0.113.7", "2001:db8::7"):
            self.assertEqual(edge(ip=address)["headers"]["x-sluicegate-client"], {"value": address})

    def test_drops_what_a_client_claims_in_our_headers(self) -> None:
        answer = edge(
            ("x-sluicegate-client", "192.0.2.1"),
            ("x-sluicegate-client", "192.0.2.2"),
            ("x-sluicegate-partition", "other"),
            ("x-sluicegate-anything", "x"),
            ("x-sluicegate-", "x"),
        )
        self.assertEqual(
            answer["headers"],
            headers(
                ("host", "d111111abcdef8.cloudfront.net"),
                ("user-agent", "curl/8"),
                ("x-sluicegate-client", "203.0.113.7"),
            ),
        )

    def test_leaves_everything_else_alone(self) -> None:
        others = [("range", "bytes=0-9"), ("if-none-match", '"a"'), ("x-sluice", "y"), ("authorization", "Basic eDp5")]
        request = event(*others)["request"]
        request["headers"]["x-sluicegate-client"] = {"value": "203.0.113.7"}
        self.assertEqual(edge(*others), request)

    def test_carries_a_token(self) -> None:
        for name, value in [
            ("x-sluicegate-token", "a.b.c"),
            ("authorization", "Bearer a.b.c"),
            ("authorization", "bearer   a.b.c "),
            ("authorization", "BEARER a.b.c"),
        ]:
            answer = edge((name, value))
            self.assertEqual(answer["headers"]["x-sluicegate-token"], {"value": "a.b.c"}, value)
            self.assertNotIn("authorization", answer["headers"], "a container behind it would see two tokens")

    def test_other_schemes_are_no_token(self) -> None:
        for value in ("Basic eDp5", "Bearerx a.b.c", "Digest Bearer a.b.c", "a.b.c"):
            self.assertNotIn("x-sluicegate-token", edge(("authorization", value))["headers"], value)

    def test_refuses_two_tokens_and_empty_ones(self) -> None:
        for fields in [
            [("authorization", "Bearer a.b.c"), ("x-sluicegate-token", "a.b.c")],
            [("authorization", "Bearer a.b.c"), ("x-sluicegate-token", "")],
            [("x-sluicegate-token", "a.b.c"), ("x-sluicegate-token", "d.e.f")],
            [("authorization", "Bearer a.b.c"), ("authorization", "Bearer d.e.f")],
            [("authorization", "Basic eDp5"), ("authorization", "Bearer a.b.c"), ("x-sluicegate-token", "d.e.f")],
            [("authorization", "Bearer")],
            [("authorization", "Bearer ")],
            [("x-sluicegate-token", " ")],
        ]:
            answer = edge(*fields)
            self.assertEqual(answer.get("statusCode"), 400, fields)
            problem = json.loads(answer["body"]["data"])
            self.assertEqual((problem["code"], problem["status"]), ("malformed_link", 400))
            self.assertEqual(answer["headers"]["cache-control"], {"value": "no-store"})
            self.assertNotIn("a.b.c", json.dumps(answer), "the refusal repeats a token")

    def test_refuses_with_the_words_of_the_origin(self) -> None:
        answer = edge(("authorization", "Bearer a.b.c"), ("x-sluicegate-token", "d.e.f"))
        problem = json.loads(answer["body"]["data"])
        table = (ROOT / "docs" / "problems.md").read_text(encoding="utf-8")
        self.assertIn(f"| 400 | `{problem['code']}` | {problem['title']} |", table)
        self.assertEqual(problem["type"], "urn:sluicegate:problem:malformed_link")
        self.assertEqual(problem["request_id"], REQUEST_ID)
        self.assertEqual(answer["headers"]["x-request-id"], {"value": REQUEST_ID})
        self.assertEqual(answer["headers"]["content-type"], {"value": "application/problem+json"})
        self.assertEqual(answer["headers"]["access-control-allow-origin"], {"value": "*"})
        links = (ROOT / "src" / "gate" / "link.rs").read_text(encoding="utf-8")
        self.assertIn(problem["detail"].removesuffix(".")[1:], links, "the origin says it differently")

    def test_one_event_leaves_no_trace_in_the_next(self) -> None:
        code = EDGE.read_text(encoding="utf-8")
        first, second = run(code, event(("x-sluicegate-token", "a.b.c"), ip="192.0.2.1"), event())
        self.assertEqual(first["headers"]["x-sluicegate-token"], {"value": "a.b.c"})
        self.assertNotIn("x-sluicegate-token", second["headers"])
        self.assertEqual(second["headers"]["x-sluicegate-client"], {"value": "203.0.113.7"})


class TheseTests(unittest.TestCase):
    """Each line that decides something, taken away, must be missed by a test above."""

    MUTANTS = [
        ("headers[CLIENT] = { value: event.viewer.ip };", ""),
        ("delete headers[name];", ""),
        (".indexOf(OURS) === 0", ".indexOf(CLIENT) === 0"),
        ("headers[TOKEN] = { value: tokens[0] };", ""),
        ("tokens.length > 1", "tokens.length > 2"),
        ("tokens[0] === ''", "tokens[0] === null"),
        ("scheme.toLowerCase() !== 'bearer'", "scheme !== 'Bearer'"),
        ("scheme.toLowerCase() !== 'bearer'", "false"),
        ("if (field.multiValue)", "if (false)"),
        ("'no-store'", "'max-age=60'"),
        ("tokens.push(token);", ""),
        ("delete headers.authorization;", ""),
        ("moved = false", "moved = true"),
    ]

    def test_notice_every_mutant(self) -> None:
        code = EDGE.read_text(encoding="utf-8")
        for old, new in self.MUTANTS:
            with self.subTest(old=old, new=new):
                self.assertIn(old, code)
                self.assertTrue(self.fails(code.replace(old, new)), "no test fails")

    def fails(self, mutant: str) -> bool:
        global edge
        original = edge
        result = unittest.TestResult()
        try:
            edge = lambda *fields, **more: run(mutant, event(*fields, **more))[0]  # noqa: E731
            unittest.defaultTestLoader.loadTestsFromTestCase(TheEdge).run(result)
        finally:
            edge = original
        return not result.wasSuccessful()

    def test_njs_is_as_strict_as_the_runtime(self) -> None:
        """The engine that runs these tests refuses what CloudFront's would not run either."""
        for modern in ("var a = { b: 1 }; a?.b;", "null ?? 1;", "var { a } = { a: 1 };", "class A {}"):
            with self.assertRaises(AssertionError, msg=modern):
                run(f"function handler(event) {{ {modern} }}", event())

    def test_the_code_uses_nothing_that_needs_the_network_or_a_timer(self) -> None:
        code = EDGE.read_text(encoding="utf-8")
        self.assertIsNone(re.search(r"\b(require|import|eval|fetch|setTimeout|XMLHttpRequest)\b", code))


if __name__ == "__main__":
    unittest.main()
