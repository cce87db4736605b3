"""What the tasks do with a stack that is deployed. Run by the Python of .tools/sam, which has boto3.

    aws/stack check             who would deploy, and where; says what is missing before anything is compiled
    aws/stack output NAME       one output of the stack
    aws/stack key ID            adds a fresh key to the stack's secret, under a new key id
    aws/stack edge [ARGS]       brings keys and revocations of policy/ to the edge, as `sluicegate edge sync` does
    aws/stack smoke [ARGS]      `sluicegate smoke` against the stack's distribution
    aws/stack logs [ARGS]       the log, followed; arguments go to `sam logs`
    aws/stack usage [ARGS]      `sluicegate usage` on the log's records, of yesterday or of the days --from and --to

`aws/stack edge --if-deployed` does nothing where there is no stack yet, or one that is older than the edge's store.

Stack and region are those of samconfig.toml; --stack-name NAME and --region NAME in front of the command say others.
"""

import argparse
import contextlib
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NoReturn

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

ROOT = Path(__file__).resolve().parent.parent
# Commands that hand on their arguments.
PASSING = ("edge", "smoke", "logs", "usage")
KEY_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
# Which lines of the log are usage; the template's UsageFilter takes the same.
USAGE_PATTERN = '{ $.target = "sluicegate::decision" && $.tenant = "*" }'
# The log's own time of a line may differ a little from the record's, by which `sluicegate usage` decides.
SLACK = datetime.timedelta(minutes=10)
# What Secrets Manager takes in one secret.
MAX_SECRET_BYTES = 65_536


def fail(message: str) -> NoReturn:
    sys.exit(f"aws/stack: {message}")


class Stack:
    def __init__(self, name: str, region: str) -> None:
        self.name = name
        self.region = region

    def client(self, service: str):
        return boto3.client(service, region_name=self.region, config=Config(retries={"total_max_attempts": 4}))

    def found(self) -> dict[str, str] | None:
        """The stack's outputs; None if there is no such stack."""
        try:
            stacks = self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ValidationError":
                return None
            raise
        return {output["OutputKey"]: output["OutputValue"] for output in stacks[0].get("Outputs", [])}

    def outputs(self) -> dict[str, str]:
        outputs = self.found()
        if outputs is None:
            fail(f"there is no stack `{self.name}` in {self.region}; deploy it with `task deploy`")
        return outputs

    def output(self, name: str) -> str:
        outputs = self.outputs()
        if name not in outputs:
            known = ", ".join(f"`{known}`" for known in sorted(outputs)) or "none"
            fail(f"the stack `{self.name}` has no output `{name}`; it has {known}")
        return outputs[name]

    def check(self) -> None:
        account = self.client("sts").get_caller_identity()["Account"]
        print(f"stack {self.name} in {self.region}, account {account}")

    def add_key(self, key_id: str) -> None:
        """The secret goes from one process's pipe into one request: never an argument, a file or the terminal."""
        if not KEY_ID.fullmatch(key_id):
            fail(f"`{key_id}` is no key id; write up to 64 of `a-z`, `0-9`, `.`, `_`, `-`, a letter or digit first")
        name = self.output("KeysSecret")
        secrets = self.client("secretsmanager")
        current = secrets.get_secret_value(SecretId=name)
        try:
            keys = json.loads(current["SecretString"])
        except (KeyError, ValueError):
            keys = None
        if not isinstance(keys, dict):
            fail(f"the secret `{name}` is no JSON object; put one there that has a member for each key id")
        if key_id in keys:
            fail(f"the secret `{name}` has a key `{key_id}` already; choose a new id, since its links are in use")
        keys[key_id] = fresh_secret()
        text = json.dumps(keys)
        if len(text.encode()) > MAX_SECRET_BYTES:
            fail(f"the secret `{name}` is full; take out retired keys, or give new tenants a secret of their own")
        secrets.put_secret_value(SecretId=name, SecretString=text)
        print(
            f"`{key_id}` is in the secret `{name}`. Name it in a policy:\n\n"
            f'[[keys]]\nid = "{key_id}"\nsecret = "secretsmanager:{name}#{key_id}"\n\n'
            "Then `task deploy`, which brings it to the edge too (`task edge:sync` does that alone). The edge refuses\n"
            "its links until about a minute after that, so make none with it before. A key that it replaces stays in\n"
            "its policy until the last link that it signed has expired.\n\n"
            "Whoever signs reads it from there, such as into a file that only you can read:\n\n"
            f"(umask 077; aws secretsmanager get-secret-value --region {self.region} --secret-id {name} \\\n"
            f"    --query SecretString --output text | jq -j '.[\"{key_id}\"]' > {key_id}.secret)"
        )

    def sync_edge(self, arguments: list[str]) -> None:
        """What the edge gets is what the function gets: the policies as the layer has them."""
        sync = ["cargo", "run", "--quiet", "--locked", "--", "edge", "sync"]
        if {"-h", "--help"} & set(arguments):
            run([*sync, "--help"])
        outputs = self.found()
        if "--if-deployed" in arguments:
            arguments = [argument for argument in arguments if argument != "--if-deployed"]
            if "EdgeStore" not in (outputs or {}):
                print(f"the stack `{self.name}` has no store for the edge yet; it is filled after the deployment")
                return
        store = self.output("EdgeStore")
        self.lend_credentials()
        (ROOT / "target").mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="edge.", dir=ROOT / "target") as folder:
            gather = ["make", "--silent", "--no-print-directory", "-C", "policy", "build-PolicyLayer"]
            if call([*gather, f"ARTIFACTS_DIR={folder}"]) != 0:
                fail("the edge was left as it is; correct what stands above in `policy/`")
            status = call([*sync, "--store", store, "--policy", f"{folder}/policy", *arguments])
        if status != 0:
            sys.exit(status)

    def lend_credentials(self) -> None:
        """`sluicegate` asks AWS with what the environment says, and no profiles."""
        found = boto3.Session(region_name=self.region).get_credentials()
        if found:
            found = found.get_frozen_credentials()
            os.environ |= {"AWS_ACCESS_KEY_ID": found.access_key, "AWS_SECRET_ACCESS_KEY": found.secret_key}
            os.environ |= {"AWS_SESSION_TOKEN": found.token} if found.token else {}
        os.environ["AWS_REGION"] = self.region

    def smoke(self, arguments: list[str]) -> NoReturn:
        if {"-h", "--help"} & set(arguments):
            run(["cargo", "run", "--quiet", "--locked", "--", "smoke", "--help"])
        outputs = self.outputs()
        url, function = outputs.get("DistributionUrl"), outputs.get("FunctionUrl")
        if not url or not function:
            fail(f"the stack `{self.name}` is not deployed whole; see `task deploy`")
        given = {argument.split("=")[0] for argument in arguments}
        if not given & {"--key", "--policy"}:
            arguments = [*self.signing_keys(arguments), *arguments]
        self.lend_credentials()
        run(["cargo", "run", "--quiet", "--locked", "--", "smoke", url, "--function-url", function, *arguments])

    def signing_keys(self, arguments: list[str]) -> list[str]:
        """Where the secrets of the keys are that the arguments name; without any, of the first key in the stack's."""
        secret = self.output("KeysSecret")
        asked = dict(zip(arguments, arguments[1:])) | dict(a.split("=", 1) for a in arguments if "=" in a)
        named = [asked[option] for option in ("--kid", "--other-kid") if option in asked]
        if "--kid" not in asked:
            text = self.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"]
            named.append(next(key for key in json.loads(text) if key not in named))
        return [word for kid in named for word in ("--key", f"{kid}=secretsmanager:{secret}#{kid}")]

    def logs(self, arguments: list[str]) -> NoReturn:
        if {"-h", "--help"} & set(arguments):
            run([str(ROOT / "aws/sam"), "logs", "--help"])
        group = self.output("LogGroup")
        run([str(ROOT / "aws/sam"), "logs", "--cw-log-group", group, "--region", self.region, "--tail", *arguments])

    def usage(self, arguments: list[str]) -> NoReturn:
        """A sum of some of the records would look like one of all: if they cannot all be had, there is none."""
        command = ["cargo", "run", "--quiet", "--locked", "--", "usage"]
        if {"-h", "--help"} & set(arguments):
            run([*command, "--help"])
        first, last, arguments = days(arguments)
        group = self.output("LogGroup")
        pages = self.client("logs").get_paginator("filter_log_events").paginate(
            logGroupName=group,
            filterPattern=USAGE_PATTERN,
            startTime=milliseconds(first - SLACK),
            endTime=milliseconds(last + datetime.timedelta(days=1) + SLACK),
        )
        sys.stdout.flush()
        try:
            adding = subprocess.Popen([*command, *arguments], cwd=ROOT, stdin=subprocess.PIPE, encoding="utf-8")
        except OSError as error:
            fail(f"cannot run `{command[0]}`: {error.strerror}; is it installed?")
        try:
            for page in pages:
                adding.stdin.writelines(event["message"].rstrip("\n") + "\n" for event in page["events"])
        except BrokenPipeError:
            # It ended early and has said why.
            pass
        except BaseException:
            adding.kill()
            raise
        with contextlib.suppress(BrokenPipeError):
            adding.stdin.close()
        sys.exit(adding.wait())


def days(arguments: list[str]) -> tuple[datetime.datetime, datetime.datetime, list[str]]:
    """The first and the last day that are asked for, and the arguments with both in them; without any, yesterday."""
    parser = argparse.ArgumentParser(prog="aws/stack usage", add_help=False, allow_abbrev=False)
    parser.add_argument("--from", dest="first", type=day)
    parser.add_argument("--to", dest="last", type=day)
    asked, rest = parser.parse_known_args(arguments)
    today = datetime.datetime.now(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    last = asked.last or (today if asked.first else today - datetime.timedelta(days=1))
    first = asked.first or last
    if first > last:
        parser.error(f"`{first:%Y-%m-%d}` is after `{last:%Y-%m-%d}`; write the earlier day behind --from")
    return first, last, ["--from", f"{first:%Y-%m-%d}", "--to", f"{last:%Y-%m-%d}", *rest]


def day(text: str) -> datetime.datetime:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        raise argparse.ArgumentTypeError(f"`{text}` is no day; write one such as 2026-11-24")
    try:
        return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)
    except ValueError:
        raise argparse.ArgumentTypeError(f"there is no day `{text}`; write one such as 2026-11-24") from None


def milliseconds(time: datetime.datetime) -> int:
    return int(time.timestamp()) * 1000


def fresh_secret() -> str:
    command = ["cargo", "run", "--quiet", "--locked", "--", "keys", "new"]
    try:
        made = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        fail("`sluicegate keys new` failed; see its message above, if there is one, and that `cargo` is installed")
    secret = made.stdout.strip()
    if len(secret) < 32 or not secret.isascii() or not secret.isprintable() or " " in secret:
        fail("`sluicegate keys new` printed something that is no secret; nothing was changed")
    return secret


def call(command: list[str]) -> int:
    """Its exit status; it speaks for itself."""
    sys.stdout.flush()
    try:
        return subprocess.run(command, cwd=ROOT, check=False).returncode
    except OSError as error:
        fail(f"cannot run `{command[0]}`: {error.strerror}; is it installed?")


def run(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    os.chdir(ROOT)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        fail(f"cannot run `{command[0]}`: {error.strerror}; is it installed?")


def defaults() -> dict[str, str]:
    with open(ROOT / "samconfig.toml", "rb") as file:
        return tomllib.load(file)["default"]["global"]["parameters"]


def arguments() -> argparse.Namespace:
    known = defaults()
    parser = argparse.ArgumentParser(prog="aws/stack", description=__doc__.split(". ")[0], allow_abbrev=False)
    parser.add_argument("--stack-name", metavar="NAME", default=known["stack_name"], help="[default: %(default)s]")
    parser.add_argument("--region", metavar="NAME", default=known["region"], help="[default: %(default)s]")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # The table at the top of this file says what each does.
    about = {name: text for name, text in re.findall(r"^ +aws/stack (\w+) .*?  +(.+)$", __doc__, re.MULTILINE)}
    for name, text in about.items():
        passing = name in PASSING
        command = commands.add_parser(name, help=text, description=text, add_help=not passing, allow_abbrev=False)
        if name == "output":
            command.add_argument("name", metavar="NAME")
        if name == "key":
            command.add_argument("id", metavar="ID")
    options, rest = parser.parse_known_args()
    if rest and options.command not in PASSING:
        parser.error(f"unknown argument `{rest[0]}`")
    options.rest = rest
    return options


def main() -> None:
    options = arguments()
    stack = Stack(options.stack_name, options.region)
    try:
        match options.command:
            case "check":
                stack.check()
            case "output":
                print(stack.output(options.name))
            case "key":
                stack.add_key(options.id)
            case "edge":
                stack.sync_edge(options.rest)
            case "smoke":
                stack.smoke(options.rest)
            case "logs":
                stack.logs(options.rest)
            case "usage":
                stack.usage(options.rest)
    except BotoCoreError as error:
        if isinstance(error, NO_CREDENTIALS):
            fail(f"AWS cannot be asked: {error}; give credentials in the environment or with AWS_PROFILE")
        fail(f"AWS cannot be asked: {error}; check the network and the region `{stack.region}`")
    except ClientError as error:
        fail(f"AWS refused: {error}")


if __name__ == "__main__":
    main()
