"""Drives `kvs_server.py` with AWS's own client, boto3 with awscrt, for whom the environment says: PORT ARN through, or
PORT ARN and what of a request is changed after it was signed.
"""

import json
import socket
import sys

import boto3
from botocore.exceptions import ClientError

PORT, ARN, WHAT = sys.argv[1:]


def client():
    """boto3 puts the account in front of the host, so this process resolves that name."""
    account = ARN.split(":")[4]
    resolve = socket.getaddrinfo

    def local(host, *rest, **named):
        return resolve("127.0.0.1" if host == f"{account}.localhost" else host, *rest, **named)

    socket.getaddrinfo = local
    return boto3.client("cloudfront-keyvaluestore", region_name="us-east-1", endpoint_url=f"http://localhost:{PORT}")


def through():
    """Every operation once, pages and a conflict among them; the store ends as it was."""
    kvs = client()
    before = kvs.describe_key_value_store(KvsARN=ARN)
    puts = [{"Key": f"boto/{number:02}", "Value": "v"} for number in range(23)]
    old = kvs.update_keys(KvsARN=ARN, IfMatch=before["ETag"], Puts=puts)["ETag"]
    listed = [
        item["Key"]
        for page in kvs.get_paginator("list_keys").paginate(KvsARN=ARN, PaginationConfig={"PageSize": 10})
        for item in page["Items"]
    ]
    deletes = [{"Key": item["Key"]} for item in puts]
    after = kvs.update_keys(KvsARN=ARN, IfMatch=old, Deletes=deletes)
    try:
        kvs.update_keys(KvsARN=ARN, IfMatch=old, Puts=puts)
        conflict = "none"
    except ClientError as error:
        conflict = error.response["Error"]["Code"]
    return {"listed": len(listed), "left": after["ItemCount"], "conflict": conflict}


def tamper(what):
    kvs = client()
    current = kvs.describe_key_value_store(KvsARN=ARN)["ETag"]

    def change(request, **_):
        if what == "body":
            request.body = request.body.replace(b"honest", b"forged")
        elif what == "version":
            request.headers["If-Match"] = current + "0"
        elif what == "region":
            request.headers["X-Amz-Region-Set"] = "us-east-1"
        elif what == "path":
            request.url = request.url.replace("key-value-store%2F", "key-value-store%2F0")
        elif what == "date":
            date = request.headers["X-Amz-Date"].decode()
            request.headers["X-Amz-Date"] = f"{date[:-2]}{(int(date[-2]) + 1) % 10}Z"

    if what != "nothing":
        kvs.meta.events.register("before-send.cloudfront-keyvaluestore.UpdateKeys", change)
    try:
        kvs.update_keys(KvsARN=ARN, IfMatch=current, Puts=[{"Key": "boto", "Value": "honest"}])
        return "accepted"
    except ClientError as error:
        return error.response["Error"]["Code"]


print(json.dumps(through()) if WHAT == "through" else tamper(WHAT))
