"""Secrets Manager and Parameter Store for `tests/secrets.rs`: moto behind a real socket, with signatures and permissions
checked. It prints where it is and who may ask; then it takes one command a line and answers each with one line.

    secret NAME TEXT     parameter NAME TEXT     binary NAME     delete NAME     calls
"""

import collections
import json
import logging
import sys
import threading

import boto3
from moto import settings
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)
calls = collections.Counter()


class Counting:
    """Counts the operations of everyone but this program itself."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        if "boto" not in environ.get("HTTP_USER_AGENT", "").lower():
            calls[environ.get("HTTP_X_AMZ_TARGET", "?")] += 1
        return self.app(environ, start_response)


server = make_server("127.0.0.1", 0, Counting(DomainDispatcherApplication(create_backend_app)), threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = f"http://127.0.0.1:{server.port}"


def client(service, key="root", secret="root"):
    return boto3.client(
        service,
        region_name="eu-central-1",
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )


def user(name, *actions):
    """A user with a policy of these actions, and a key of its own."""
    iam = client("iam")
    iam.create_user(UserName=name)
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return [key["AccessKeyId"], key["SecretAccessKey"]]


owner = user("owner", "secretsmanager:*", "ssm:*")
reader = user("reader", "secretsmanager:GetSecretValue", "ssm:GetParameters")
nobody = user("nobody", "s3:GetObject")
# From now on every signature is checked, and every permission.
settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
secrets, parameters = client("secretsmanager", *owner), client("ssm", *owner)


def run(command, name="", text=""):
    if command == "secret":
        try:
            secrets.put_secret_value(SecretId=name, SecretString=text)
        except secrets.exceptions.ResourceNotFoundException:
            return secrets.create_secret(Name=name, SecretString=text)["ARN"]
    elif command == "binary":
        secrets.create_secret(Name=name, SecretBinary=b"\x00\x01")
    elif command == "parameter":
        parameters.put_parameter(Name=name, Value=text, Type="SecureString", Overwrite=True)
    elif command == "delete":
        secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    elif command == "calls":
        return json.dumps(calls)
    return "ok"


print(json.dumps({"endpoint": endpoint, "reader": reader, "nobody": nobody}), flush=True)
for line in sys.stdin:
    print(run(*line.rstrip("\n").split(" ", 2)), flush=True)
