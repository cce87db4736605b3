"""What has to agree across files: settings, samconfig, tasks, the build, records, the container."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

from template import RECORDS, ROOT, listed, metrics, outcomes, read


def source(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def settings() -> set[str]:
    """The variables that the gateway reads."""
    table = re.search(r"pub const SETTINGS[^=]*= \[\n(.*?)\n\];", source("src/wire/config/settings.rs"), re.DOTALL)
    names = re.findall(r'^ {4}(?:\(|    )"([a-z_.]+)",', table[1], re.MULTILINE)
    return {"SLUICEGATE_" + name.replace(".", "_").upper() for name in names}


class TheSettings(unittest.TestCase):
    def test_the_function_is_given_only_what_the_gateway_reads(self) -> None:
        known = settings()
        self.assertIn("SLUICEGATE_TIMEOUTS_TRANSFER", known, "the settings could not be found in config.rs")
        given = set(read()["Resources"]["Function"]["Properties"]["Environment"]["Variables"])
        self.assertLessEqual(given, known)

    def test_samconfig_names_what_there_is(self) -> None:
        config = tomllib.loads(source("samconfig.toml"))["default"]
        parameters = read()["Parameters"]
        for pair in config["global"]["parameters"]["parameter_overrides"].split():
            name, value = pair.split("=", 1)
            self.assertIn(name, parameters)
            self.assertIn(value, parameters[name].get("AllowedValues", [value]))
        # The examples in its comments too.
        for name in re.findall(r"^#   ?(.*)$", source("samconfig.toml"), re.MULTILINE):
            for one in re.findall(r"([A-Z][A-Za-z]+)=", name):
                self.assertIn(one, parameters)
        deploy = config["deploy"]["parameters"]
        self.assertEqual((deploy["capabilities"], deploy["confirm_changeset"]), ("CAPABILITY_IAM", True))
        self.assertTrue(deploy["tags"])
        self.assertEqual(config["global"]["parameters"]["region"], "us-east-1")

    def test_every_parameter_is_on_the_page_with_its_default(self) -> None:
        table = source("docs/operations.md").split("\n### Parameters\n")[1].split("\n## ")[0]
        rows = dict(re.findall(r"^\| `(\w+)` \| (?:`([^`]*)`|none) \|", table, re.MULTILINE))
        given = {name: str(parameter.get("Default", "")) for name, parameter in read()["Parameters"].items()}
        self.assertEqual(rows, given)

    def test_git_leaves_the_build_alone(self) -> None:
        ignored = source(".gitignore").splitlines()
        self.assertLessEqual({"/.aws-sam/", "/.tools", "/policy/*.secret"}, set(ignored))


class TheBuild(unittest.TestCase):
    def test_compiles_the_lambda_feature_alone_and_locked(self) -> None:
        package = tomllib.loads(source("Cargo.toml"))["package"]
        self.assertEqual(
            package["metadata"]["lambda"]["build"],
            {"no_default_features": True, "features": ["lambda"], "locked": True, "disable_optimizations": True},
        )

    def test_hands_all_of_that_to_cargo_and_uploads_no_secret(self) -> None:
        """The real SAM and the real cargo-lambda; a stand-in for cargo compiles nothing and says how it was called."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "src" / "bin").mkdir(parents=True)
            (folder / "src" / "bin" / "bootstrap.rs").write_text("fn main() {}\n")
            build = re.search(r"^\[package\.metadata\.lambda\.build\]\n(?:.+\n)+", source("Cargo.toml"), re.MULTILINE)
            (folder / "Cargo.toml").write_text(
                '[package]\nname = "function"\nversion = "0.1.0"\nedition = "2021"\n\n[features]\nlambda = []\n\n'
                f'[[bin]]\nname = "bootstrap"\n\n[workspace]\n\n{build[0]}'
            )
            (folder / "policy").mkdir()
            for file in ("template.yaml", "samconfig.toml", "policy/Makefile", "policy/demo.toml"):
                shutil.copy(ROOT / file, folder / file)
            shutil.copy(ROOT / "examples" / "aws" / "acme.toml", folder / "policy")
            (folder / "policy" / "demo.secret").write_text("decoy")
            called = folder / "called"
            stand_in = folder / "stand-in" / "cargo"
            stand_in.parent.mkdir()
            stand_in.write_text(
                "#!/bin/sh\ncase $1 in\n"
                'lambda) exec cargo-lambda "$@" ;;\n'
                f'build) echo "$*" > {called}\n'
                "    built=target/$(echo \"$*\" | sed 's/.*--target \\([^ ]*\\).*/\\1/')/release\n"
                f'    mkdir -p "$built"; exec cp {which("true")} "$built/bootstrap" ;;\n'
                f'*) exec {which("cargo")} "$@" ;;\nesac\n'
            )
            stand_in.chmod(0o755)
            tools = ROOT / ".tools"
            done = subprocess.run(
                [str(tools / "sam" / "bin" / "sam"), "build"],
                cwd=folder,
                env={
                    **environment(),
                    "PATH": f"{stand_in.parent}:{tools}/lambda/bin:{environment()['PATH']}",
                    "CARGO": str(stand_in),
                    "SAM_CLI_TELEMETRY": "0",
                },
                capture_output=True,
                text=True,
                timeout=120,
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            command = called.read_text()
            artifacts = folder / ".aws-sam" / "build"
            made = {str(path.relative_to(artifacts)) for path in artifacts.rglob("*") if path.is_file()}
        self.assertEqual(made, {"template.yaml", "Function/bootstrap", "PolicyLayer/policy/acme.toml"})
        for word in ("--bin bootstrap", "--features lambda", "--no-default-features", "--locked", "--release"):
            self.assertIn(word, command)
        self.assertNotIn("panic", command, "cargo-lambda changes the release profile")


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CARGO_")}


def which(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise AssertionError(f"there is no {program}")
    return found


class TheRecords(unittest.TestCase):
    """tests/aws/records.jsonl stands in for a running gateway; here it is held against the code that writes records."""

    def test_have_the_fields_that_the_code_writes(self) -> None:
        code = source("src/wire/audit/line.rs")
        written = re.search(r"tracing::info!\((.*?)\n        \);", code, re.DOTALL)[1]
        fields = set(re.findall(r"^\s{12}(\w+)(?: =|,)", written, re.MULTILINE))
        self.assertIn("target: TARGET", written)
        self.assertIn("DECISION as TARGET", code)
        self.assertIn('const DECISION: &str = "sluicegate::decision";', source("src/wire/log.rs"))
        # The JSON log writes the line's own fields, the text log those of the event.
        line = re.search(r"struct Line<'r> \{(.*?)\n\}", code, re.DOTALL)[1]
        self.assertEqual(set(re.findall(r"^    pub\(super\) (\w+):", line, re.MULTILINE)), fields)
        json = re.search(r"    fn object\(.*?\n    \}\n", code, re.DOTALL)[0]
        named = set(re.findall(r'\("(\w+)"[,)]', json))
        self.assertEqual(named, fields | {"timestamp", "level", "message", "target"})
        for record in RECORDS:
            if record["target"] == "sluicegate::decision":
                extra = set(record) - fields - {"timestamp", "level", "message", "target"}
                self.assertEqual(extra, set(), record)
        needed = {"outcome", "status", "bytes", "tenant", "code", "reason", "total_ms", "head_ms", "request_id"}
        self.assertLessEqual(needed, fields)

    def test_have_the_outcomes_that_the_code_knows(self) -> None:
        self.assertEqual(outcomes(), {"whole", "answered", "refused", "aborted", "unanswered"})
        self.assertLessEqual({record["outcome"] for record in RECORDS if "outcome" in record}, outcomes())

    def test_queries_of_the_operators_page_use_these_fields(self) -> None:
        fields = {name for record in RECORDS for name in record} | {"@timestamp"}
        queries = re.findall(r"```sql\n(.*?)```", source("docs/operations.md"), re.DOTALL)
        self.assertGreaterEqual(len(queries), 4)
        words = {"filter", "fields", "stats", "sort", "limit", "by", "as", "and", "or", "asc", "desc"}
        for query in queries:
            bare = re.sub(r'"[^"]*"', "", query)
            made = set(re.findall(r" as (\w+)", bare))
            called = set(re.findall(r"(\w+)\(", bare))
            self.assertLessEqual(called, {"count", "sum", "max", "pct", "bin", "ispresent"})
            named = set(re.findall(r"(?<![\w@])@?[a-z][a-z_]*\b", bare)) - words - made - called
            self.assertLessEqual(named, fields, query)


class TheMetrics(unittest.TestCase):
    """The operators' page against the list in the code; alarms and dashboard are held against it in template.py."""

    def test_are_all_on_the_page_with_their_labels(self) -> None:
        rows = re.findall(r"^\| `(sluicegate_\w+)` \| [^|]+ \| ([^|]+) \|", source("docs/operations.md"), re.MULTILINE)
        described = {name: frozenset(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
        self.assertEqual(described, {name: metric.labels for name, metric in metrics().items()})
        self.assertEqual(len(rows), len(described), "one is described twice")

    def test_the_page_names_no_other(self) -> None:
        for name in re.findall(r"sluicegate_[a-z_]+", source("docs/operations.md")):
            self.assertIn(name, metrics())


class TheEdge(unittest.TestCase):
    def test_who_syncs_may_do_what_the_sync_does(self) -> None:
        """The page's policy for the operator, held against the code that calls the store."""
        [document] = re.findall(r"```json\n(.*?)```", source("docs/operations.md"), re.DOTALL)
        statements = json.loads(document)["Statement"]
        actions = [action for one in statements for action in listed(one["Action"])]
        called = re.findall(r"`(\w+)`", source("src/wire/edge/store.rs").split("(API version")[0])
        self.assertEqual(len(called), 3)
        self.assertEqual(
            [action for action in actions if action.startswith("cloudfront")],
            [f"cloudfront-keyvaluestore:{action}" for action in called],
        )
        self.assertFalse([action for action in actions if "*" in action])

    def test_the_page_says_how_to_find_what_the_template_has(self) -> None:
        page = source("docs/operations.md")
        for name in ("EdgeFailures", "EdgeAnswerFailures", "EdgeStore", "task edge:sync", "FunctionComputeUtilization"):
            self.assertIn(name, page)
        alarms = {n for n, r in read()["Resources"].items() if r["Type"] == "AWS::CloudWatch::Alarm"}
        self.assertEqual(set(re.findall(r"^\| `(\w+)`[^|]*\| [\d,]+ ", page, re.MULTILINE)), alarms)


def sent(path: str) -> bool:
    """Whether .dockerignore lets a file in: the last line that matches counts. Only the forms that the file uses."""
    kept = True
    for line in source(".dockerignore").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parts = path.split("/")
        names = ["/".join(parts[: at + 1]) for at in range(len(parts))] + (parts if pattern.startswith("**/") else [])
        if any(fnmatch.fnmatchcase(name, pattern.removeprefix("**/")) for name in names):
            kept = line.startswith("!")
    return kept


class TheContainer(unittest.TestCase):
    def test_gets_neither_secrets_nor_what_is_built(self) -> None:
        for path in (
            "target/debug/sluicegate",
            ".git/config",
            "policy/demo.secret",
            "policy/acme.toml",
            "policy/demo.toml",
            ".tools/sam/bin/sam",
            ".aws-sam/build/template.yaml",
            "fuzz/target/x",
            "sluicegate.toml",
            "src/deep/x.secret",
            ".env",
            "key.pem",
        ):
            self.assertFalse(sent(path), path)
        for path in ("Cargo.toml", "Cargo.lock", "src/lib.rs", "src/bin/sluicegate/main.rs", "benches/gate.rs"):
            self.assertTrue(sent(path), path)

    def test_gets_all_that_it_compiles(self) -> None:
        copied = [
            word.removeprefix("./")
            for line in re.findall(r"^COPY (?!--from)(.+)$", source("Dockerfile"), re.MULTILINE)
            for word in line.split()[:-1]
        ]
        for path in copied:
            self.assertTrue((ROOT / path).exists() and sent(path), path)
        # What is built into the binary, and targets that Cargo.toml names.
        needed = ["Cargo.toml", "Cargo.lock", "src/lib.rs"]
        for file in (ROOT / "src").rglob("*.rs"):
            for name in re.findall(r'include_(?:bytes|str)!\("([^"]+)"\)', file.read_text(encoding="utf-8")):
                needed.append(str((file.parent / name).resolve().relative_to(ROOT)))
        needed += [f"benches/{bench['name']}.rs" for bench in tomllib.loads(source("Cargo.toml")).get("bench", [])]
        self.assertGreater(len(needed), 4)
        for path in needed:
            self.assertTrue(any(path == one or path.startswith(f"{one}/") for one in copied), path)
            self.assertTrue(sent(path), path)

    def test_runs_as_nobody_and_stops_when_told(self) -> None:
        dockerfile = source("Dockerfile")
        self.assertRegex(dockerfile, r"(?m)^USER (?!root|0)\S+$")
        self.assertRegex(dockerfile, r"(?m)^STOPSIGNAL SIGTERM$")
        self.assertRegex(dockerfile, r"HEALTHCHECK(.|\\\n)*sluicegate\", \"health\"")
        self.assertNotRegex(dockerfile, r"(?i)(secret|password|token)=")
        minimum = tomllib.loads(source("Cargo.toml"))["package"]["rust-version"]
        used = re.search(r"FROM rust:(\d+\.\d+)", dockerfile)[1]
        self.assertGreaterEqual([int(n) for n in used.split(".")], [int(n) for n in minimum.split(".")])


class TheTasks(unittest.TestCase):
    """`task --dry`, with the real go-task: each task of the stack sets up first, and hands on its arguments."""

    def dry(self, *arguments: str) -> list[str]:
        done = subprocess.run(
            [str(ROOT / ".tools" / "bin" / "task"), "--dry", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return [line.split("] ", 1)[1] for line in (done.stdout + done.stderr).splitlines() if "] " in line]

    def test_do_what_they_say(self) -> None:
        for arguments, commands in {
            ("setup:aws",): ["aws/setup"],
            ("validate",): ["aws/setup", "tests/aws/run"],
            ("build",): ["aws/setup", "aws/policy", "aws/sam build"],
            ("deploy", "--", "--guided"): [
                "aws/setup",
                "aws/stack check",
                "aws/policy",
                "aws/sam build",
                "aws/stack edge --if-deployed",
                "aws/sam deploy --guided",
                "aws/stack edge",
            ],
            ("edge:sync", "--", "--dry-run"): ["aws/setup", "aws/stack edge --dry-run"],
            ("smoke", "--", "--json"): ["aws/setup", "aws/stack smoke --json"],
            ("key", "--", "acme-2"): ["aws/setup", "aws/stack key acme-2"],
            ("logs", "--", "--filter", "aborted"): ["aws/setup", "aws/stack logs --filter aborted"],
            ("usage", "--", "--by", "key"): ["aws/setup", "aws/stack usage --by key"],
            ("remove",): ["aws/setup", "aws/stack check", "aws/sam delete"],
        }.items():
            self.assertEqual([command.strip() for command in self.dry(*arguments)], commands)

    def test_build_and_deploy_read_the_policies_first(self) -> None:
        """The real tasks, aws/policy and Makefile; stand-ins for cargo, SAM and the rest say how they were called."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file in ("Taskfile.yml", "aws/policy", "policy/Makefile", "policy/demo.toml"):
                (folder / file).parent.mkdir(exist_ok=True)
                shutil.copy(ROOT / file, folder / file)
            shutil.copy(ROOT / "examples" / "aws" / "acme.toml", folder / "policy")
            (folder / "policy" / "demo.secret").write_text("decoy")
            calls = folder / "calls"

            def stand_in(file: str, script: str) -> None:
                (folder / file).parent.mkdir(exist_ok=True)
                (folder / file).write_text(f'#!/bin/sh\necho "{file} $*" >> {calls}\n{script}\n')
                (folder / file).chmod(0o755)

            def task(*arguments: str) -> tuple[subprocess.CompletedProcess, list[str]]:
                calls.write_text("")
                done = subprocess.run(
                    [str(ROOT / ".tools" / "bin" / "task"), *arguments],
                    cwd=folder,
                    env={**environment(), "PATH": f"{folder}/bin:{environment()['PATH']}"},
                    capture_output=True,
                    text=True,
                    timeout=60,
                )
                return done, calls.read_text().splitlines()

            for file in ("aws/setup", "aws/stack", "aws/sam"):
                stand_in(file, "true")
            stand_in("bin/cargo", '[ "$(ls "$8")" = acme.toml ]')
            for name, before, after in (
                ("build", ["aws/setup "], ["aws/sam build"]),
                (
                    "deploy",
                    ["aws/setup ", "aws/stack check"],
                    ["aws/sam build", "aws/stack edge --if-deployed", "aws/sam deploy ", "aws/stack edge"],
                ),
            ):
                done, called = task(name)
                self.assertEqual(done.returncode, 0, done.stderr)
                check = called.pop(len(before))
                self.assertRegex(check, r"^bin/cargo run --quiet --locked -- policy check --offline /\S+/policy$")
                self.assertEqual([call.rstrip() for call in called], [call.rstrip() for call in before + after])
                self.assertEqual(done.stdout.endswith("next: task deploy\n"), name == "build", done.stdout)
            self.assertEqual(list((folder / "target").iterdir()), [], "the gathered folder is left behind")

            stand_in("bin/cargo", "exit 1")
            for name in ("build", "deploy"):
                done, called = task(name)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn("`policy/`", done.stderr)
                self.assertFalse([call for call in called if call.startswith(("aws/sam", "aws/stack edge"))], called)
            # What the layer itself refuses does not get as far as that.
            (folder / "policy" / "beta.pem").write_text("decoy")
            for name in ("build", "deploy"):
                done, called = task(name)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn("`beta.pem` is no public key", done.stderr)
                self.assertFalse([call for call in called if call.startswith(("aws/sam", "bin/cargo"))], called)

    def test_are_all_explained(self) -> None:
        tasks = [str(ROOT / ".tools" / "bin" / "task"), "--list", "--json"]
        listed = json.loads(subprocess.run(tasks, cwd=ROOT, capture_output=True, text=True, check=True).stdout)["tasks"]
        self.assertTrue(all(task["desc"] for task in listed))
        names = {task["name"] for task in listed}
        self.assertLessEqual({"setup:aws", "validate", "build", "deploy", "remove"}, names)
        self.assertLessEqual({"edge:sync", "smoke", "key", "logs", "usage"}, names)
        written = re.findall(r"^  ([a-z:]+):$", source("Taskfile.yml"), re.MULTILINE)
        self.assertEqual(names, set(written))
        twice = sorted({name for name in written if written.count(name) > 1})
        self.assertEqual(twice, [], "a YAML loader keeps the last of them without a word")


if __name__ == "__main__":
    unittest.main()
