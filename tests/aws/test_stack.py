"""aws/stack against a stand-in for the AWS services on loopback: the real script, the real boto3, a made-up account."""

import datetime
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from template import ROOT

# The gateway that the tests may run: whatever is built already.
BINARY = next(
    (
        str(path)
        for path in (Path(os.environ.get("SLUICEGATE_BINARY", "")), ROOT / "target/debug/sluicegate")
        if path.is_file()
    ),
    None,
)
SECRET = "sluicegate_key_" + "A1b2C3d4" * 6
OUTPUTS = {
    "DistributionUrl": "https://d111111abcdef8.cloudfront.net",
    "FunctionUrl": "https://abc.lambda-url.us-east-1.on.aws/",
    "EdgeStore": "arn:aws:cloudfront::123456789012:key-value-store/0a1b2c3d",
    "KeysSecret": "sluicegate/keys",
    "LogGroup": "/sluicegate/sluicegate",
}


class Account(ThreadingHTTPServer):
    """As much of CloudFormation, STS and Secrets Manager as the script asks for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Service)
        self.stacks = {"sluicegate": OUTPUTS}
        self.secrets = {"sluicegate/keys": json.dumps({"acme-1": "x" * 64})}
        self.puts: list[dict] = []
        self.asked_for_lines: list[dict] = []
        # What the log group has, a list for each page.
        self.lines: list[list[str]] = [[]]


class Service(BaseHTTPRequestHandler):
    server: Account

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        target = self.headers.get("x-amz-target", "")
        if target == "Logs_20140328.FilterLogEvents":
            status, answer = self.log_events(json.loads(body))
            kind, text = "application/x-amz-json-1.1", json.dumps(answer)
        elif target.startswith("secretsmanager."):
            status, answer = self.secretsmanager(target.split(".")[1], json.loads(body))
            kind, text = "application/x-amz-json-1.1", json.dumps(answer)
        else:
            status, text = self.query({name: values[0] for name, values in parse_qs(body).items()})
            kind = "text/xml"
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def secretsmanager(self, action: str, asked: dict) -> tuple[int, dict]:
        if asked["SecretId"] not in self.server.secrets:
            return 400, {"__type": "ResourceNotFoundException", "message": "no such secret"}
        if action == "GetSecretValue":
            return 200, {"Name": asked["SecretId"], "SecretString": self.server.secrets[asked["SecretId"]]}
        self.server.puts.append(asked)
        return 200, {"Name": asked["SecretId"]}

    def log_events(self, asked: dict) -> tuple[int, dict]:
        self.server.asked_for_lines.append(asked)
        page = int(asked.get("nextToken", 0))
        if page == len(self.server.lines):
            return 400, {"__type": "InvalidParameterException", "message": "the token has expired"}
        events = [{"message": line} for line in self.server.lines[page]]
        more = page + 1 < len(self.server.lines) or self.server.lines[page] == ["and so on"]
        return 200, {"events": events} | ({"nextToken": str(page + 1)} if more else {})

    def query(self, asked: dict) -> tuple[int, str]:
        if asked["Action"] == "GetCallerIdentity":
            return 200, (
                "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account>"
                "</GetCallerIdentityResult></GetCallerIdentityResponse>"
            )
        outputs = self.server.stacks.get(asked["StackName"])
        if outputs is None:
            return (
                400,
                "<ErrorResponse><Error><Code>ValidationError</Code><Message>no</Message></Error></ErrorResponse>",
            )
        members = "".join(
            f"<member><OutputKey>{name}</OutputKey><OutputValue>{value}</OutputValue></member>"
            for name, value in outputs.items()
        )
        return 200, (
            "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>sluicegate</StackName>"
            f"<Outputs>{members}</Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
        )

    def log_message(self, *_: object) -> None:
        pass


class TheStack(unittest.TestCase):
    def setUp(self) -> None:
        self.account = Account()
        thread = threading.Thread(target=self.account.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.account.server_close)
        self.addCleanup(self.account.shutdown)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.cargo(f'echo "$*" >> {self.folder}/calls; echo {SECRET}')

    def cargo(self, script: str) -> None:
        """A stand-in for cargo, so that nothing is compiled; `calls` has what it was asked."""
        path = self.folder / "cargo"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def stack(
        self, *arguments: str, credentials: bool = True, root: Path = ROOT, **variables: str
    ) -> subprocess.CompletedProcess:
        environment = {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.account.server_port}",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if credentials:
            environment |= {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"}
        environment |= variables
        return subprocess.run(
            [str(root / "aws" / "stack"), *arguments], env=environment, capture_output=True, text=True, timeout=60
        )

    def assert_refused(self, done: subprocess.CompletedProcess, *words: str) -> None:
        self.assertNotEqual(done.returncode, 0, done.stdout)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        self.assertEqual(self.account.puts, [], "the secret was changed")

    def test_says_where_it_would_deploy(self) -> None:
        done = self.stack("check")
        self.assertEqual(done.stdout, "stack sluicegate in us-east-1, account 123456789012\n", done.stderr)

    def test_says_that_credentials_are_missing(self) -> None:
        for command in (["check"], ["key", "acme-2"], ["edge"], ["smoke"], ["logs"], ["usage"]):
            self.assert_refused(self.stack(*command, credentials=False), "credentials", "AWS_PROFILE")

    def test_says_that_a_profile_is_missing(self) -> None:
        done = self.stack("check", credentials=False, AWS_PROFILE="nobody")
        self.assert_refused(done, "nobody", "give credentials")

    def test_does_not_take_a_dead_network_for_missing_credentials(self) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            done = self.stack("check", AWS_ENDPOINT_URL=f"http://127.0.0.1:{closed.getsockname()[1]}")
        self.assert_refused(done, "check the network and the region `us-east-1`")
        self.assertNotIn("AWS_PROFILE", done.stderr)
        self.assert_refused(self.stack("--region", "no region", "check"), "the region `no region`")

    def test_explains_each_command(self) -> None:
        done = self.stack("--help", credentials=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        for command in ("check", "output", "key", "edge", "smoke", "logs", "usage"):
            self.assertRegex(done.stdout, rf"(?m)^ +{command} +\S+ \S+")
        self.assertIn("[default: sluicegate]", done.stdout)

    def test_logs_explains_itself_without_a_stack(self) -> None:
        done = self.stack("logs", "--help", credentials=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("--filter", done.stdout)

    def test_says_that_nothing_is_deployed(self) -> None:
        for command in (["output", "LogGroup"], ["key", "acme-2"], ["edge"], ["smoke"], ["logs"], ["usage"]):
            self.assert_refused(self.stack("--stack-name", "other", *command), "`other`", "`task deploy`")

    def test_adds_a_key_and_keeps_the_others(self) -> None:
        done = self.stack("key", "acme-2")
        self.assertEqual(done.returncode, 0, done.stderr)
        [put] = self.account.puts
        self.assertEqual(put["SecretId"], "sluicegate/keys")
        self.assertEqual(json.loads(put["SecretString"]), {"acme-1": "x" * 64, "acme-2": SECRET})
        self.assertEqual(self.calls(), ["run --quiet --locked -- keys new"])
        self.assertIn('secret = "secretsmanager:sluicegate/keys#acme-2"', done.stdout)
        self.assertNotIn(SECRET, done.stdout + done.stderr, "the terminal shows the secret")
        self.assertNotIn("x" * 64, done.stdout + done.stderr)
        # The edge must know a key before the first link is made with it.
        self.assertLess(done.stdout.index("[[keys]]"), done.stdout.index("`task edge:sync`"))
        self.assertLess(done.stdout.index("`task edge:sync`"), done.stdout.index("Whoever signs"))

    def test_never_replaces_a_key(self) -> None:
        self.assert_refused(self.stack("key", "acme-1"), "`acme-1` already", "new id")

    def test_refuses_what_is_no_key_id(self) -> None:
        for wrong in ("Acme", "a b", "", "-a", "a" * 65, "a/b"):
            self.assertNotEqual(self.stack("key", "--", wrong).returncode, 0, wrong)
        self.assertEqual(self.account.puts, [])

    def test_leaves_a_secret_alone_that_is_no_object(self) -> None:
        for text in ("plain", "[]", '"x"'):
            self.account.secrets["sluicegate/keys"] = text
            self.assert_refused(self.stack("key", "acme-2"), "no JSON object")

    def test_leaves_a_secret_alone_that_is_full(self) -> None:
        self.account.secrets["sluicegate/keys"] = json.dumps({"a": "x" * 65_500})
        self.assert_refused(self.stack("key", "acme-2"), "is full")

    def test_puts_nothing_there_that_is_no_secret(self) -> None:
        for script in ("exit 1", "true", "echo short", "echo error: this is a sentence and not a secret at all"):
            self.cargo(script)
            self.assert_refused(self.stack("key", "acme-2"), "keys new")

    def test_smoke_gets_both_addresses_and_what_else_is_said(self) -> None:
        """Keys come from the stack's secret by reference, unless it is said where they are."""
        self.account.secrets["sluicegate/keys"] = json.dumps({"acme-1": "x", "other": "y"})
        both = f"run --quiet --locked -- smoke {OUTPUTS['DistributionUrl']} --function-url {OUTPUTS['FunctionUrl']}"
        acme, other = (f"--key {kid}=secretsmanager:sluicegate/keys#{kid}" for kid in ("acme-1", "other"))
        for arguments, added in (
            (["--kid", "acme-1", "--json"], f" {acme}"),
            (["--json"], f" {acme}"),
            (["--kid=acme-1", "--other-kid", "other"], f" {acme} {other}"),
            (["--other-kid", "acme-1"], f" {acme} {other}"),
            (["--policy", "elsewhere"], ""),
            (["--key", "acme-1=env:KEY"], ""),
        ):
            done = self.stack("smoke", *arguments)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.calls()[-1], f"{both}{added} {' '.join(arguments)}")

    def test_smoke_gets_the_credentials_and_the_region(self) -> None:
        self.cargo(f"env | grep ^AWS_ > {self.folder}/environment")
        self.assertEqual(self.stack("smoke", "--policy", "p").returncode, 0)
        environment = (self.folder / "environment").read_text().splitlines()
        for line in ("AWS_ACCESS_KEY_ID=AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY=example", "AWS_REGION=us-east-1"):
            self.assertIn(line, environment)

    # --- edge: in a checkout of its own, since what it gathers is the folder policy/

    def checkout(self) -> Path:
        root = self.folder / "checkout"
        for file in ("aws/stack", "aws/stack.py", "samconfig.toml", "policy/Makefile", "policy/demo.toml"):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, root / file)
        shutil.copy(ROOT / "examples" / "aws" / "acme.toml", root / "policy")
        (root / "policy" / "demo.secret").write_text("decoy")
        (root / ".tools").symlink_to(ROOT / ".tools")
        self.cargo(
            f'echo "$*" >> {self.folder}/calls; env | grep ^AWS_ > {self.folder}/environment\n'
            f'ls "${{10}}" > {self.folder}/listed; exit "${{EXIT:-0}}"'
        )
        return root

    def test_edge_gets_the_store_and_the_policies_of_the_layer(self) -> None:
        root = self.checkout()
        for arguments in ([], ["--dry-run"], ["--dry-run", "--allow-empty"], ["--if-deployed"]):
            done = self.stack("edge", *arguments, root=root)
            self.assertEqual(done.returncode, 0, done.stderr)
            passed = "".join(f" {word}" for word in arguments if word != "--if-deployed")
            self.assertRegex(
                self.calls()[-1],
                rf"^run --quiet --locked -- edge sync --store {OUTPUTS['EdgeStore']} --policy /\S+/policy{passed}$",
            )
            self.assertEqual((self.folder / "listed").read_text(), "acme.toml\n")
        self.assertEqual(list((root / "target").iterdir()), [], "the gathered folder is left behind")

    def test_edge_gets_the_credentials_and_the_region(self) -> None:
        self.assertEqual(self.stack("--region", "eu-west-1", "edge", root=self.checkout()).returncode, 0)
        environment = (self.folder / "environment").read_text().splitlines()
        for line in ("AWS_ACCESS_KEY_ID=AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY=example", "AWS_REGION=eu-west-1"):
            self.assertIn(line, environment)

    def test_edge_says_when_it_failed(self) -> None:
        root = self.checkout()
        done = self.stack("edge", root=root, EXIT="3")
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertEqual(list((root / "target").iterdir()), [], "the gathered folder is left behind")
        (root / "policy" / "beta.pem").write_text("decoy")
        called = len(self.calls())
        self.assert_refused(self.stack("edge", root=root), "`beta.pem` is no public key", "the edge was left as it is")
        (root / "policy" / "beta.pem").unlink()
        (root / "policy" / "acme.toml").unlink()
        self.assert_refused(self.stack("edge", root=root), "no tenant to deploy")
        self.assertEqual(len(self.calls()), called)

    def test_edge_waits_for_the_first_deployment_if_told_to(self) -> None:
        root = self.checkout()
        older = {name: value for name, value in OUTPUTS.items() if name != "EdgeStore"}
        self.account.stacks["older"] = older
        for name in ("none", "older"):
            done = self.stack("--stack-name", name, "edge", "--if-deployed", root=root)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(f"`{name}` has no store", done.stdout)
            self.assert_refused(self.stack("--stack-name", name, "edge", root=root), f"`{name}`")
        self.assertEqual(self.calls(), [])

    def test_edge_is_not_skipped_when_aws_does_not_answer(self) -> None:
        done = self.stack("edge", "--if-deployed", credentials=False, root=self.checkout())
        self.assert_refused(done, "credentials", "AWS_PROFILE")

    def test_edge_explains_itself_without_a_stack(self) -> None:
        self.assertEqual(self.stack("edge", "--help", credentials=False).returncode, 0)
        self.assertEqual(self.calls(), ["run --quiet --locked -- edge sync --help"])

    def test_smoke_explains_itself_without_a_stack(self) -> None:
        self.assertEqual(self.stack("smoke", "--help", credentials=False).returncode, 0)
        self.assertEqual(self.calls(), ["run --quiet --locked -- smoke --help"])

    # --- usage

    def adds(self, script: str = "") -> None:
        """A stand-in for `sluicegate usage`: `taken` has what it read, and `whole` that it came to the end of it."""
        self.cargo(
            f'echo "$*" >> {self.folder}/calls\n{script}\ncat > {self.folder}/taken\n'
            f'touch {self.folder}/whole; echo "the sums"'
        )

    def test_usage_hands_on_every_line_of_the_days(self) -> None:
        self.adds()
        self.account.lines = [['{"tenant":"acme"}\n', '{"tenant":"beta"}'], [], ['{"tenant":"übung"}']]
        done = self.stack("usage", "--from", "2026-11-24", "--to=2026-11-25", "--by", "key", "--json")
        self.assertEqual((done.returncode, done.stdout), (0, "the sums\n"), done.stderr)
        passed = "usage --from 2026-11-24 --to 2026-11-25 --by key --json"
        self.assertEqual(self.calls(), [f"run --quiet --locked -- {passed}"])
        taken = (self.folder / "taken").read_text(encoding="utf-8")
        self.assertEqual(taken, '{"tenant":"acme"}\n{"tenant":"beta"}\n{"tenant":"übung"}\n')
        first, *more = self.account.asked_for_lines
        self.assertEqual([page["nextToken"] for page in more], ["1", "2"])
        self.assertEqual(first["logGroupName"], OUTPUTS["LogGroup"])
        # 24 November 2026, 00:00 UTC, and the end of the 25th, with ten minutes more on either side.
        self.assertEqual((first["startTime"], first["endTime"]), (1795477800000, 1795651800000))

    def test_usage_takes_what_the_stack_keeps(self) -> None:
        from template import read

        self.adds()
        self.assertEqual(self.stack("usage").returncode, 0)
        kept = read()["Resources"]["UsageFilter"]["Properties"]["FilterPattern"]
        self.assertEqual([page["filterPattern"] for page in self.account.asked_for_lines], [kept])

    def test_usage_is_yesterdays_unless_days_are_named(self) -> None:
        self.adds()
        told = datetime.date(2026, 11, 24)
        for arguments, span in (
            ([], lambda today: (today - datetime.timedelta(days=1),) * 2),
            (["--from", "2026-11-24"], lambda today: (told, today)),
            (["--to", "2026-11-24"], lambda today: (told, told)),
        ):
            # Midnight may pass in between.
            before = datetime.datetime.now(datetime.UTC).date()
            self.assertEqual(self.stack("usage", *arguments).returncode, 0)
            possible = [span(today) for today in (before, datetime.datetime.now(datetime.UTC).date())]
            passed = [f"run --quiet --locked -- usage --from {first} --to {last}" for first, last in possible]
            self.assertIn(self.calls()[-1], passed)

    def test_usage_refuses_what_is_no_day(self) -> None:
        self.adds()
        for wrong in (["--from", "yesterday"], ["--from", "2026-02-30"], ["--to", "2026-1-1"], ["--from", "20261124"]):
            self.assert_refused(self.stack("usage", *wrong), f"`{wrong[1]}`", "such as 2026-11-24")
        done = self.stack("usage", "--from", "2026-11-25", "--to", "2026-11-24")
        self.assert_refused(done, "`2026-11-25` is after `2026-11-24`")
        self.assertEqual((self.calls(), self.account.asked_for_lines), ([], []))

    def test_usage_adds_nothing_up_if_lines_are_missing(self) -> None:
        self.adds()
        self.account.lines = [["and so on"]]
        self.assert_refused(self.stack("usage"), "AWS refused", "the token has expired")
        self.assertFalse((self.folder / "whole").exists(), "a part was added up as if it were all")

    def test_usage_fails_as_sluicegate_fails(self) -> None:
        self.account.lines = [["x" * 1000] * 500]
        self.adds("echo no such flag >&2; exit 2")
        done = self.stack("usage", "--wrong")
        self.assertEqual((done.returncode, done.stderr), (2, "no such flag\n"))

    @unittest.skipUnless(BINARY, "no gateway is built, and SLUICEGATE_BINARY names none")
    def test_usage_adds_up_what_the_log_has(self) -> None:
        # Behind `cargo run --quiet --locked --` is the real program.
        self.cargo(f'shift 4; exec "{BINARY}" "$@"')
        records = (ROOT / "tests/aws/records.jsonl").read_text(encoding="utf-8").splitlines()
        # The log's own page ends anywhere, and shipping repeats.
        self.account.lines = [records[:2], records[1:], records]
        done = self.stack("usage", "--from", "2026-11-24", "--to", "2026-11-24", "--by", "key", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        sums = json.loads(done.stdout)
        [row] = sums["rows"]
        told = {name: row[name] for name in ("tenant", "key", "day", "requests", "whole", "aborted", "refused", "bytes")}
        expected = {"tenant": "acme", "key": "acme-1", "day": "2026-11-24", "requests": 4, "whole": 1, "aborted": 2}
        self.assertEqual(told, expected | {"refused": 1, "bytes": 15})
        self.assertEqual(sums["duplicates"], 5)

    def test_usage_explains_itself_without_a_stack(self) -> None:
        self.assertEqual(self.stack("usage", "--help", credentials=False).returncode, 0)
        self.assertEqual(self.calls(), ["run --quiet --locked -- usage --help"])

    def test_outputs_are_those_of_the_template(self) -> None:
        from template import read

        self.assertLessEqual(set(OUTPUTS), set(read()["Outputs"]))


if __name__ == "__main__":
    unittest.main()
