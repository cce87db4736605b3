"""What template.yaml must say and no linter checks. A rule yields a sentence for everything that is wrong.

The rules read resources by type, so the same rules judge the file as written and as the SAM translator expands it.
"""

import copy
import dataclasses
import functools
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).resolve().parent.parent.parent
TEMPLATE = ROOT / "template.yaml"
# The template's functions, and their names in edge/.
FUNCTIONS = {"ViewerRequest": "viewer-request", "ViewerResponse": "viewer-response"}
# What a CloudFront function may have, in bytes.
MAX_CODE = 10_240
# One decision record of each kind, as a running gateway wrote them; see also test_project.py.
RECORDS = [json.loads(line) for line in (Path(__file__).parent / "records.jsonl").read_text().splitlines()]

# It says at every translation that it counted something and told nobody.
logging.getLogger("samtranslator").setLevel(logging.ERROR)

Template = dict[str, Any]
Rule = Callable[[Template], Iterator[str]]
RULES: dict[str, Rule] = {}

# Managed-AllViewerExceptHostHeader.
ORIGIN_REQUEST_POLICY = "b689b0a8-53d0-40ab-baf2-68738e2966ac"
# All that CloudFront lets one name (AWS::CloudFront::Distribution CustomErrorResponse).
ERROR_CODES = {400, 403, 404, 405, 414, 416, 500, 501, 502, 503, 504}
SOURCE_ARN = {"Fn::Sub": "arn:${AWS::Partition}:cloudfront::${AWS::AccountId}:distribution/${Distribution}"}
# Every role of the stack: who may take it, under which condition, and every right that it has, as action and resource.
ROLES: dict[str, tuple[dict[str, Any], set[tuple[str, str]]]] = {
    "FunctionRole": (
        {"Principal": {"Service": "lambda.amazonaws.com"}},
        {
            ("logs:CreateLogStream", "FunctionLogs"),
            ("logs:PutLogEvents", "FunctionLogs"),
            ("secretsmanager:GetSecretValue", "Keys"),
            ("secretsmanager:GetSecretValue", "MoreSecretArns"),
            ("ssm:GetParameters", "MoreParameterArns"),
            ("kms:Decrypt", "KmsKeyArn"),
            ("dynamodb:UpdateItem", "LimitsTable"),
            ("dynamodb:GetItem", "LimitsTable"),
        },
    ),
    "UsageDeliveryRole": (
        {
            "Principal": {"Service": "firehose.amazonaws.com"},
            "Condition": {"StringEquals": {"sts:ExternalId": {"Ref": "AWS::AccountId"}}},
        },
        {
            ("s3:GetBucketLocation", "UsageBucket"),
            ("s3:ListBucket", "UsageBucket"),
            ("s3:ListBucketMultipartUploads", "UsageBucket"),
            ("s3:AbortMultipartUpload", "UsageBucket/*"),
            ("s3:GetObject", "UsageBucket/*"),
            ("s3:PutObject", "UsageBucket/*"),
        },
    ),
    "UsageFilterRole": (
        {
            "Principal": {"Service": "logs.amazonaws.com"},
            "Condition": {
                "StringLike": {
                    "aws:SourceArn": {"Fn::Sub": "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:*"}
                }
            },
        },
        {("firehose:PutRecord", "UsageStream"), ("firehose:PutRecordBatch", "UsageStream")},
    ),
}
# The objects of the stack's own bucket: the one resource of a right that ends in `*`.
OBJECTS = {"Fn::Sub": "${UsageBucket.Arn}/*"}
# Which log lines are counted, and which are kept as usage.
COUNTED: dict[str, Callable[[dict[str, Any]], bool]] = {
    "ErrorLines": lambda record: record["level"] == "ERROR",
}
# What no picture needs: on Lambda the one is what ErrorLines has too, the other what ConcurrentExecutions has.
NOT_SHOWN = {"sluicegate_error_lines_total", "sluicegate_requests_active"}
# Metrics of AWS that alarms look at, with their dimensions.
AWS_METRICS = {
    ("AWS/Lambda", "Errors"): {"FunctionName"},
    ("AWS/Lambda", "Throttles"): {"FunctionName"},
    ("AWS/Firehose", "DeliveryToS3.DataFreshness"): {"DeliveryStreamName"},
    ("AWS/CloudFront", "FunctionExecutionErrors"): {"FunctionName", "Region"},
}
# What has to have an alarm.
WATCHED = {name for _, name in AWS_METRICS} | {
    "sluicegate_aborted_total",
    "sluicegate_server_errors_total",
    "sluicegate_limits_degraded_total",
    "ErrorLines",
}
# Longest way to an answer's head: the defaults of timeouts.resolve, timeouts.connect and timeouts.first_byte.
HEAD_SECONDS = 5 + 5 + 20
DAY = 86_400
# 200 MB, of which 6 MB come at once and the rest at 2 MB/s.
PLATFORM_SECONDS = 97


def rule(function: Rule) -> Rule:
    RULES[function.__name__] = function
    return function


def read() -> Template:
    """The template as written; each caller may change what it gets."""
    return copy.deepcopy(parsed())


@functools.cache
def parsed() -> Template:
    return yaml_parse(TEMPLATE.read_text(encoding="utf-8"))


@dataclasses.dataclass(frozen=True)
class Metric:
    """One of the function's or the server's metrics; its labels are its dimensions in CloudWatch."""

    labels: frozenset[str]
    on_lambda: bool


@functools.cache
def metrics() -> dict[str, Metric]:
    """The list in the code, by name."""
    source = (ROOT / "src" / "wire" / "metrics.rs").read_text(encoding="utf-8")
    entry = r'"(sluicegate_[a-z_]+)" \w+ \[([^\]]*)\]\s+"[^"]*"( server_only)?;'
    found = {
        name: Metric(frozenset(re.findall(r'"(\w+)"', labels)), not server_only)
        for name, labels, server_only in re.findall(entry, source)
    }
    if len(found) < 15:
        raise ValueError(f"src/wire/metrics.rs has another form; {len(found)} of its metrics could be read")
    return found


@functools.cache
def outcomes() -> set[str]:
    """How a request can end, as the code that writes the records has it."""
    source = (ROOT / "src" / "wire" / "audit.rs").read_text(encoding="utf-8")
    return set(re.findall(r'=> \("(\w+)"', source))


def edge_source(name: str) -> str:
    """The source of a function, joined as edge/build.mjs joins it before it is made small."""
    folder = ROOT / "edge"
    if name != "viewer-request":
        return (folder / f"{name}.js").read_text(encoding="utf-8")
    build = (folder / "build.mjs").read_text(encoding="utf-8")
    parts = re.search(r"'viewer-request': \[([^\]]+)\]", build)
    names = re.findall(r"'([a-z]+)'", parts[1] if parts else "")
    # A file that the build does not name would be deployed nowhere.
    if set(names) != {path.stem for path in (folder / name).glob("*.js")}:
        raise ValueError(f"edge/build.mjs joins {names}, which is not what edge/{name}/ has")
    return "\n".join((folder / name / f"{part}.js").read_text(encoding="utf-8") for part in names)


def translated(template: Template) -> Template:
    """What CloudFormation gets: the template without the SAM transform, as it is after packaging."""
    packaged = copy.deepcopy(template)
    for resource in packaged["Resources"].values():
        for name in ("CodeUri", "ContentUri"):
            if name in resource.get("Properties", {}):
                resource["Properties"][name] = "s3://bucket/key"
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    parameters = {name: text(value.get("Default", "")) for name, value in packaged["Parameters"].items()}
    return transform(packaged, parameters, NoManagedPolicies())


class NoManagedPolicies:
    """The translator asks AWS for managed policies where a template names one; this one must not."""

    def load(self) -> dict[str, str]:
        return {}


def text(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


def broken(template: Template) -> dict[str, list[str]]:
    """The rules that do not hold, each with what it says."""
    findings = {name: list(check(template)) for name, check in RULES.items()}
    return {name: said for name, said in findings.items() if said}


def of_type(template: Template, *types: str) -> dict[str, dict[str, Any]]:
    return {
        name: resource.get("Properties", {})
        for name, resource in template["Resources"].items()
        if resource["Type"] in types
    }


def the(template: Template, *types: str) -> dict[str, Any]:
    """The properties of the only resource of that type; empty if there is none or more than one."""
    found = list(of_type(template, *types).values())
    return found[0] if len(found) == 1 else {}


def function(template: Template) -> dict[str, Any]:
    return the(template, "AWS::Serverless::Function", "AWS::Lambda::Function")


def behaviour(template: Template) -> dict[str, Any]:
    return distribution(template).get("DefaultCacheBehavior", {})


def distribution(template: Template) -> dict[str, Any]:
    return the(template, "AWS::CloudFront::Distribution").get("DistributionConfig", {})


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in a value, with its path, the outermost first."""
    yield path, value
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        yield from walk(member, f"{path}/{name}")


def references(value: Any) -> set[str]:
    """The logical names that a value refers to."""
    found = set()
    for _, part in walk(value):
        if not isinstance(part, dict) or len(part) != 1:
            continue
        kind, target = next(iter(part.items()))
        if kind == "Ref" and isinstance(target, str):
            found.add(target)
        elif kind == "Fn::GetAtt":
            found.add(target[0] if isinstance(target, list) else target.split(".")[0])
        elif kind == "Fn::Sub":
            pattern = target[0] if isinstance(target, list) else target
            found.update(name.split(".")[0] for name in re.findall(r"\$\{([A-Za-z0-9.:]+)\}", pattern))
    return found


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# --- The way in


@rule
def the_url_streams(template: Template) -> Iterator[str]:
    url = the(template, "AWS::Lambda::Url")
    if url.get("InvokeMode") != "RESPONSE_STREAM":
        yield f"the one function URL must have `InvokeMode: RESPONSE_STREAM`, not `{url.get('InvokeMode')}`"


@rule
def the_url_takes_signed_requests_alone(template: Template) -> Iterator[str]:
    if the(template, "AWS::Lambda::Url").get("AuthType") != "AWS_IAM":
        yield "the one function URL must have `AuthType: AWS_IAM`"
    for path, value in walk(template["Resources"]):
        name = path.rsplit("/", 1)[-1]
        if name in ("AuthType", "FunctionUrlAuthType") and value != "AWS_IAM":
            yield f"{path} is `{value}`"
        if name in ("FunctionUrlConfig", "Events"):
            yield f"{path} opens another way in"


@rule
def cloudfront_alone_may_call(template: Template) -> Iterator[str]:
    """Both permissions, each for this distribution, and no third."""
    called = [name for name in of_type(template, "AWS::Serverless::Function", "AWS::Lambda::Function")]
    common = {
        "FunctionName": {"Fn::GetAtt": [called[0] if called else "", "Arn"]},
        "Principal": "cloudfront.amazonaws.com",
        "SourceArn": SOURCE_ARN,
    }
    wanted = [
        {**common, "Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "AWS_IAM"},
        {**common, "Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": True},
    ]
    given = of_type(template, "AWS::Lambda::Permission", "AWS::Lambda::LayerVersionPermission")
    for permission in wanted:
        if permission not in given.values():
            yield f"there is no permission {permission}"
    for name, permission in given.items():
        if permission not in wanted:
            yield f"`{name}` permits something else"


@rule
def cloudfront_signs_every_request(template: Template) -> Iterator[str]:
    access = of_type(template, "AWS::CloudFront::OriginAccessControl")
    for name, control in access.items():
        config = control["OriginAccessControlConfig"]
        kinds = ("OriginAccessControlOriginType", "SigningBehavior", "SigningProtocol")
        if [config.get(kind) for kind in kinds] != ["lambda", "always", "sigv4"]:
            yield f"`{name}` does not sign every request to a function with sigv4"
    origins = distribution(template).get("Origins", [])
    if len(origins) != 1:
        yield "there is not exactly one origin"
    for origin in origins:
        if origin.get("OriginAccessControlId") not in [{"Fn::GetAtt": [name, "Id"]} for name in access]:
            yield "the origin has no origin access control"
        if origin.get("CustomOriginConfig", {}).get("OriginProtocolPolicy") != "https-only":
            yield "the origin is not asked over https alone"
        if references(origin.get("DomainName")) != set(of_type(template, "AWS::Lambda::Url")):
            yield "the origin is not the function's URL"


# --- The distribution


@rule
def no_error_is_cached(template: Template) -> Iterator[str]:
    given = {error["ErrorCode"]: error for error in distribution(template).get("CustomErrorResponses", [])}
    for code in sorted(ERROR_CODES):
        if given.get(code) != {"ErrorCode": code, "ErrorCachingMinTTL": 0}:
            yield f"errors of status {code} may be cached, or are replaced"


@rule
def the_cache_key_is_url_and_partition(template: Template) -> Iterator[str]:
    policy = the(template, "AWS::CloudFront::CachePolicy").get("CachePolicyConfig", {})
    wanted = {
        "EnableAcceptEncodingBrotli": False,
        "EnableAcceptEncodingGzip": False,
        "QueryStringsConfig": {"QueryStringBehavior": "whitelist", "QueryStrings": ["url"]},
        "HeadersConfig": {"HeaderBehavior": "whitelist", "Headers": ["x-sluicegate-partition"]},
        "CookiesConfig": {"CookieBehavior": "none"},
    }
    if policy.get("ParametersInCacheKeyAndForwardedToOrigin") != wanted:
        yield "the cache key is not exactly `url` and `x-sluicegate-partition`"


@rule
def nothing_is_cached_that_does_not_say_so(template: Template) -> Iterator[str]:
    policies = of_type(template, "AWS::CloudFront::CachePolicy")
    for name, policy in policies.items():
        config = policy["CachePolicyConfig"]
        if (config.get("MinTTL"), config.get("DefaultTTL")) != (0, 0):
            yield f"`{name}` keeps what says nothing about caching, or what says `private`"
        if not 0 < config.get("MaxTTL", 31_536_000) <= DAY:
            yield f"`{name}` keeps something for longer than a day"
    if behaviour(template).get("CachePolicyId") not in [{"Ref": name} for name in policies]:
        yield "the distribution has another cache policy"
    if distribution(template).get("CacheBehaviors") or "ForwardedValues" in behaviour(template):
        yield "there is a cache behaviour beside the default one"


@rule
def authorization_is_named_nowhere(template: Template) -> Iterator[str]:
    """A header list with it, in an all-except policy above all, strips CloudFront's own signature."""
    for path, value in walk(template["Resources"]):
        if "/Headers/" in path and str(value).lower() == "authorization":
            yield f"{path} names `authorization`"


@rule
def the_origin_sees_every_header_but_host(template: Template) -> Iterator[str]:
    if behaviour(template).get("OriginRequestPolicyId") != ORIGIN_REQUEST_POLICY:
        yield "the origin request policy is not Managed-AllViewerExceptHostHeader"


@rule
def clients_come_over_https_with_three_methods(template: Template) -> Iterator[str]:
    default = behaviour(template)
    if default.get("ViewerProtocolPolicy") != "https-only":
        yield "links may travel in the clear"
    if default.get("AllowedMethods") != ["GET", "HEAD", "OPTIONS"]:
        yield "other methods than GET, HEAD and OPTIONS reach the function"
    certificate = json.dumps(distribution(template).get("ViewerCertificate"))
    if not re.search(r'"MinimumProtocolVersion": "TLSv1\.[23]_202[15]"', certificate):
        yield "old versions of TLS are spoken under a domain of one's own"


# --- The edge


def edge_functions(template: Template) -> dict[str, dict[str, Any]]:
    """The functions that run in front of the cache and behind it, by the event that they are associated with."""
    functions = of_type(template, "AWS::CloudFront::Function")
    found = {}
    for association in behaviour(template).get("FunctionAssociations", []):
        for name, properties in functions.items():
            if association.get("FunctionARN") == {"Fn::GetAtt": [name, "FunctionARN"]}:
                found[association.get("EventType")] = properties
    return found


def stores(edge: dict[str, Any]) -> list[Any]:
    associated = edge.get("FunctionConfig", {}).get("KeyValueStoreAssociations", [])
    return [one.get("KeyValueStoreARN") for one in associated]


def verifies(template: Template) -> bool:
    """Does what runs in front of the cache have the store to verify with?"""
    known = [{"Fn::GetAtt": [name, "Arn"]} for name in of_type(template, "AWS::CloudFront::KeyValueStore")]
    edge = edge_functions(template).get("viewer-request", {})
    # The name that the code imports the module by is its own.
    reads = re.search(r"\bimport (\w+) from ?[\"']cloudfront[\"'];", edge.get("FunctionCode", ""))
    used = reads and re.search(rf"\b{reads[1]}\.kvs\(\)", edge["FunctionCode"])
    return bool(used) and len(known) == 1 and stores(edge) == known


@rule
def every_request_is_verified_in_front_of_the_cache(template: Template) -> Iterator[str]:
    functions = edge_functions(template)
    made = of_type(template, "AWS::CloudFront::Function")
    if list(functions) != ["viewer-request", "viewer-response"] or len(made) != 2:
        yield "there is not one function for requests and one for answers"
    if len(behaviour(template).get("FunctionAssociations", [])) != 2:
        yield "the behaviour names another number of functions"
    if functions.get("viewer-request") is functions.get("viewer-response"):
        yield "one function does for both"
    if not verifies(template):
        yield "the viewer-request function does not read the one store"
    if stores(functions.get("viewer-response", {})):
        yield "the viewer-response function may read the keys, which it does not need"
    for event, edge in functions.items():
        if edge.get("FunctionConfig", {}).get("Runtime") != "cloudfront-js-2.0" or edge.get("AutoPublish") is not True:
            yield f"the {event} function is not published for runtime 2.0"
        if edge.get("Name") != {"Fn::Sub": f"${{AWS::StackName}}-${{AWS::Region}}-{event}"}:
            yield f"the {event} function is not called after it, so two stacks or the alarms get in each other's way"


@rule
def edge_code_fits(template: Template) -> Iterator[str]:
    for name, edge in of_type(template, "AWS::CloudFront::Function").items():
        size = len(edge.get("FunctionCode", "").encode())
        if not 0 < size <= MAX_CODE:
            yield f"the code of `{name}` has {size} bytes"


@rule
def only_a_cache_that_verifies_is_told_to_keep(template: Template) -> Iterator[str]:
    """Told to keep without verification in front, a cached file is open to everybody."""
    told = function(template).get("Environment", {}).get("Variables", {}).get("SLUICEGATE_EDGE_SHARED_CACHE", "false")
    if told not in ("true", "false"):
        yield "whether answers are marked for the cache is not plain to see"
    if (told == "true") != verifies(template):
        yield f"SLUICEGATE_EDGE_SHARED_CACHE is {told}, and the edge does {'' if verifies(template) else 'not '}verify"


@rule
def the_store_is_the_operators_to_fill(template: Template) -> Iterator[str]:
    names = list(of_type(template, "AWS::CloudFront::KeyValueStore"))
    if template.get("Outputs", {}).get("EdgeStore", {}).get("Value") not in [{"Fn::GetAtt": [n, "Arn"]} for n in names]:
        yield "the store's ARN is no output, where `task edge:sync` looks for it"
    for name, store in of_type(template, "AWS::CloudFront::KeyValueStore").items():
        if "ImportSource" in store:
            yield f"`{name}` takes its keys from a file in a bucket"
    for path, value in walk(template["Resources"]):
        if isinstance(value, str) and value.lower().startswith("cloudfront-keyvaluestore"):
            yield f"{path} gives somebody of the stack a right on the store"
        refers = isinstance(value, dict) and set(value) & {"Ref", "Fn::GetAtt", "Fn::Sub"}
        if refers and references(value) & set(names) and not path.endswith("/KeyValueStoreARN"):
            yield f"{path} hands the store on"


@rule
def nothing_here_is_a_key(template: Template) -> Iterator[str]:
    for path, value in walk(template):
        if isinstance(value, str) and re.search(r"\bsgk1_|PRIVATE KEY-----", value):
            yield f"{path} holds a key"


@rule
def time_runs_out_from_the_inside(template: Template) -> Iterator[str]:
    """First the gateway, then the platform, then CloudFront: who ends first says why."""
    origin = (distribution(template).get("Origins") or [{}])[0]
    allowed = template["Parameters"]["Timeout"]["AllowedValues"]
    by_timeout = template["Mappings"]["Seconds"]
    if {str(timeout) for timeout in allowed} != set(by_timeout):
        yield "the mapping does not have a line for each timeout"
    for timeout, row in by_timeout.items():
        transfer, complete = int(row["transfer"].removesuffix("s")), row["complete"]
        if not PLATFORM_SECONDS < transfer < int(timeout) <= 900 or not int(timeout) < complete:
            yield f"with a timeout of {timeout} s the ends are at {transfer} and {complete} s"
    variables = function(template).get("Environment", {}).get("Variables", {})
    if variables.get("SLUICEGATE_TIMEOUTS_TRANSFER") != {"Fn::FindInMap": ["Seconds", {"Ref": "Timeout"}, "transfer"]}:
        yield "the gateway does not end a transfer before the platform does"
    if origin.get("ResponseCompletionTimeout") != {"Fn::FindInMap": ["Seconds", {"Ref": "Timeout"}, "complete"]}:
        yield "CloudFront may end a transfer before the gateway does"
    if not HEAD_SECONDS < origin.get("CustomOriginConfig", {}).get("OriginReadTimeout", 30) <= 120:
        yield "CloudFront gives up before the gateway has said which upstream is slow"
    if origin.get("ConnectionAttempts") != 1:
        yield "a slow answer is asked for again, and paid again"


# --- Rights and secrets


def statements(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, value in walk(template["Resources"]):
        if isinstance(value, dict) and "Effect" in value and "Principal" not in value:
            yield path, value


@rule
def no_right_has_a_wildcard(template: Template) -> Iterator[str]:
    for path, statement in statements(template):
        for name in ("NotAction", "NotResource", "NotPrincipal"):
            if name in statement:
                yield f"{path} has {name}"
        for name in ("Action", "Resource"):
            for where, value in walk(statement.get(name)):
                # Which rights there are on these objects is the next rule's.
                if isinstance(value, str) and "*" in value and statement[name] != OBJECTS:
                    yield f"{path}/{name}{where} is `{value}`"
    for name in ("MoreSecretArns", "MoreParameterArns", "KmsKeyArn"):
        pattern = template["Parameters"][name].get("AllowedPattern", ".*")
        for wild in (
            "*",
            "arn:aws:ssm:us-east-1:123456789012:parameter/*",
            "arn:aws:kms:us-east-1:123456789012:key/*",
            "arn:aws:secretsmanager:us-east-1:123456789012:secret:*",
        ):
            if re.search(pattern, wild):
                yield f"the parameter {name} takes `{wild}`"


@rule
def rights_are_these_and_no_others(template: Template) -> Iterator[str]:
    given: dict[str, set[tuple[str, str]]] = {name: set() for name in ROLES}
    for path, statement in statements(template):
        resource = statement.get("Resource")
        targets = {"UsageBucket/*"} if resource == OBJECTS else references(resource) or {json.dumps(resource)}
        rights = {(action, target) for action in listed(statement.get("Action")) for target in targets}
        given.setdefault(path.split("/")[1], set()).update(rights)
        if set(statement) - {"Effect", "Action", "Resource"}:
            yield f"{path} says more than action and resource"
    for name, rights in given.items():
        expected = ROLES[name][1] if name in ROLES else set()
        for action, target in sorted(rights ^ expected):
            yield f"`{name}`: `{action}` on {target} is {'not expected' if (action, target) in rights else 'missing'}"
    roles = of_type(template, "AWS::IAM::Role")
    if set(roles) != set(ROLES) or of_type(template, "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::User"):
        yield "there are other roles than expected"
    for name, role in roles.items():
        wanted = [{"Effect": "Allow", "Action": "sts:AssumeRole", **(ROLES[name][0] if name in ROLES else {})}]
        if role["AssumeRolePolicyDocument"]["Statement"] != wanted:
            yield f"`{name}` may be taken by others than the service that it is for"
        if role.get("ManagedPolicyArns"):
            yield f"`{name}` has managed policies, whose content is not ours"
    if function(template).get("Role") != {"Fn::GetAtt": ["FunctionRole", "Arn"]}:
        yield "the function has another role"
    if "Policies" in function(template):
        yield "the function has policies beside its role"


@rule
def the_keys_outlive_the_stack(template: Template) -> Iterator[str]:
    secrets = {n: r for n, r in template["Resources"].items() if r["Type"] == "AWS::SecretsManager::Secret"}
    if list(secrets) != ["Keys"]:
        yield "there is not exactly one secret"
    for name, resource in secrets.items():
        properties = resource["Properties"]
        if (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")) != ("Retain", "Retain"):
            yield f"`{name}` may be deleted with all its keys"
        if properties.get("Name") != {"Fn::Sub": "${AWS::StackName}/keys"}:
            yield f"`{name}` is not called <stack name>/keys"
        if "SecretString" in properties:
            yield f"`{name}` has its secret written in the template"
        made = properties.get("GenerateSecretString", {})
        if (made.get("PasswordLength", 0), made.get("ExcludePunctuation"), made.get("GenerateStringKey")) != (
            64,
            True,
            {"Ref": "FirstKeyId"},
        ):
            yield f"`{name}` does not begin with a first key of 64 letters and digits"


@rule
def nothing_depends_on_itself(template: Template) -> Iterator[str]:
    """CloudFormation refuses a circle when the stack is created, after minutes of compiling and uploading."""
    resources = template["Resources"]
    edges = {
        name: (references(resource.get("Properties", {})) | set(listed(resource.get("DependsOn", [])))) & set(resources)
        for name, resource in resources.items()
    }
    for name in resources:
        seen, waiting = set(), list(edges[name])
        while waiting:
            other = waiting.pop()
            if other not in seen:
                seen.add(other)
                waiting.extend(edges[other])
        if name in seen:
            yield f"`{name}` depends on itself"
    if "Distribution" in references(function(template).get("Environment", {})):
        yield "the function's environment refers to the distribution"


# --- The function, and watching it


@rule
def the_function_is_built_from_this_package(template: Template) -> Iterator[str]:
    given = function(template)
    if (given.get("Handler"), given.get("Runtime")) != ("bootstrap", "provided.al2023"):
        yield "the function is not the binary `bootstrap` on provided.al2023"
    if given.get("Architectures") != [{"Ref": "Architecture"}]:
        yield "the architecture is not the parameter's"
    names = [name for name in of_type(template, "AWS::Serverless::Function")]
    for name in names:
        wanted = {"BuildMethod": "rust-cargolambda", "BuildProperties": {"Binary": "bootstrap"}}
        if template["Resources"][name].get("Metadata") != wanted:
            yield f"`{name}` is not built by cargo-lambda as the binary `bootstrap`"
    variables = given.get("Environment", {}).get("Variables", {})
    if (variables.get("SLUICEGATE_POLICY"), variables.get("SLUICEGATE_LOG")) != ("/opt/policy", "json"):
        yield "the gateway does not read the policy layer, or does not log JSON"
    layers = of_type(template, "AWS::Serverless::LayerVersion", "AWS::Lambda::LayerVersion")
    if given.get("Layers") != [{"Ref": name} for name in layers]:
        yield "the policy layer is not the function's one layer"
    for name in of_type(template, "AWS::Serverless::LayerVersion"):
        if template["Resources"][name].get("Metadata") != {"BuildMethod": "makefile"}:
            yield f"`{name}` is not gathered by policy/Makefile, which leaves the secrets out"
        if template["Resources"][name]["Properties"].get("ContentUri") not in ("policy/", "s3://bucket/key"):
            yield f"`{name}` is not the policy folder"


@rule
def logs_end(template: Template) -> Iterator[str]:
    groups = of_type(template, "AWS::Logs::LogGroup")
    for name, group in groups.items():
        if not group.get("RetentionInDays"):
            yield f"`{name}` keeps its records for ever"
    if function(template).get("LoggingConfig") not in [
        {"LogFormat": "JSON", "LogGroup": {"Ref": name}} for name in groups
    ]:
        yield "the function logs elsewhere, or in another form"


# --- Limits, and what is kept of downloads


def switched(template: Template, name: str, condition: str, parameter: str) -> Iterator[str]:
    """Is a resource there if, and only if, its parameter says so?"""
    if template["Resources"].get(name, {}).get("Condition") != condition:
        yield f"`{name}` does not depend on {condition}"
    if template["Conditions"].get(condition) != {"Fn::Equals": [{"Ref": parameter}, "true"]}:
        yield f"{condition} is not what {parameter} says"


@rule
def limits_count_in_one_table_that_forgets(template: Template) -> Iterator[str]:
    if list(of_type(template, "AWS::DynamoDB::Table")) != ["LimitsTable"]:
        yield "there is not exactly one table"
    yield from switched(template, "LimitsTable", "HasSharedLimits", "SharedLimits")
    wanted = {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "TimeToLiveSpecification": {"AttributeName": "expires", "Enabled": True},
    }
    table = the(template, "AWS::DynamoDB::Table")
    for name in sorted(set(table) | set(wanted)):
        if table.get(name) != wanted.get(name):
            yield f"{name} of the table is {table.get(name)}"
    told = function(template).get("Environment", {}).get("Variables", {}).get("SLUICEGATE_LIMITS_STORE")
    if told != {"Fn::If": ["HasSharedLimits", {"Fn::Sub": "dynamodb:${LimitsTable}"}, "process"]}:
        yield f"the function counts in {told}"
    for path, value in walk(of_type(template, "AWS::IAM::Role")):
        if isinstance(value, dict) and value.get("PolicyName") == "limits":
            if not path.endswith("/Fn::If/1") or "HasSharedLimits" not in str(parent(template, path)):
                yield "the right on the table does not depend on whether there is one"


def parent(template: Template, path: str) -> Any:
    """What holds the value at a path of `of_type`, which leaves `Properties` out."""
    first, *parts = path.split("/")[1:-1]
    place: Any = template["Resources"][first].get("Properties", {})
    for part in parts:
        place = place[int(part) if isinstance(place, list) else part]
    return place


@rule
def usage_records_stay_and_stay_here(template: Template) -> Iterator[str]:
    """The bucket: it outlives the stack, nobody else reads it, and its objects end."""
    for name in ("UsageBucket", "UsageBucketPolicy"):
        yield from switched(template, name, "HasUsageRecords", "UsageRecords")
        resource = template["Resources"].get(name, {})
        if (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")) != ("Retain", "Retain"):
            yield f"`{name}` goes with the stack"
    if list(of_type(template, "AWS::S3::Bucket")) != ["UsageBucket"]:
        yield "there is not exactly one bucket"
    bucket = the(template, "AWS::S3::Bucket")
    blocked = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    if bucket.get("PublicAccessBlockConfiguration") != dict.fromkeys(blocked, True):
        yield "the bucket may be opened to the public"
    if bucket.get("OwnershipControls") != {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}:
        yield "objects of the bucket may belong to others"
    encrypted = [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
    if bucket.get("BucketEncryption") != {"ServerSideEncryptionConfiguration": encrypted}:
        yield "the bucket is not encrypted"
    [ends] = bucket.get("LifecycleConfiguration", {}).get("Rules", []) or [{}]
    if (ends.get("Status"), ends.get("ExpirationInDays")) != ("Enabled", {"Ref": "UsageRetentionDays"}):
        yield "usage records are kept for ever"
    denial = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [{"Fn::GetAtt": ["UsageBucket", "Arn"]}, OBJECTS],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    policy = the(template, "AWS::S3::BucketPolicy")
    if (policy.get("Bucket"), policy.get("PolicyDocument", {}).get("Statement")) != ({"Ref": "UsageBucket"}, [denial]):
        yield "the bucket takes requests in the clear, or its policy says more than that"


@rule
def usage_is_every_proven_tenants_record(template: Template) -> Iterator[str]:
    """On the way to the bucket: no record too many or too few, and as lines."""
    for name in ("UsageFilter", "UsageStream"):
        yield from switched(template, name, "HasUsageRecords", "UsageRecords")
    taken = the(template, "AWS::Logs::SubscriptionFilter")
    kept = [record for record in RECORDS if matches(taken.get("FilterPattern", "{ ? }"), record)]
    wanted = [r for r in RECORDS if r["target"] == "sluicegate::decision" and "tenant" in r]
    if not kept or kept != wanted:
        yield f"other records are kept than a tenant's: {[record.get('request_id') for record in kept]}"
    if taken.get("LogGroupName") not in [{"Ref": group} for group in of_type(template, "AWS::Logs::LogGroup")]:
        yield "usage comes from another log"
    if taken.get("DestinationArn") != {"Fn::GetAtt": ["UsageStream", "Arn"]}:
        yield "usage goes elsewhere"
    stream = the(template, "AWS::KinesisFirehose::DeliveryStream")
    bucket = stream.get("ExtendedS3DestinationConfiguration", {})
    if stream.get("DeliveryStreamEncryptionConfigurationInput") != {"KeyType": "AWS_OWNED_CMK"}:
        yield "records are not encrypted on their way"
    if bucket.get("BucketARN") != {"Fn::GetAtt": ["UsageBucket", "Arn"]}:
        yield "usage goes to another bucket"
    roles = (taken.get("RoleArn"), bucket.get("RoleARN"))
    if roles != ({"Fn::GetAtt": ["UsageFilterRole", "Arn"]}, {"Fn::GetAtt": ["UsageDeliveryRole", "Arn"]}):
        yield "a step on the way has another role"
    processing = bucket.get("ProcessingConfiguration", {})
    steps = [
        (step["Type"], *((p["ParameterName"], p["ParameterValue"]) for p in step.get("Parameters", [])))
        for step in processing.get("Processors", [])
    ]
    unpacked = [
        ("Decompression", ("CompressionFormat", "GZIP")),
        ("CloudWatchLogProcessing", ("DataMessageExtraction", "true")),
        ("AppendDelimiterToRecord",),
    ]
    if processing.get("Enabled") is not True or steps != unpacked:
        yield f"what comes from the log is not taken apart into its lines: {steps}"
    if bucket.get("CompressionFormat") != "UNCOMPRESSED" or bucket.get("FileExtension") != ".jsonl":
        yield "objects are no plain JSON lines"
    day = "!{timestamp:yyyy-MM-dd}/"
    if bucket.get("Prefix") != f"decisions/{day}":
        yield "records do not lie in a folder a day"
    # Under the same prefix, what could not be unpacked would be read as usage.
    if bucket.get("ErrorOutputPrefix") != f"failed/!{{firehose:error-output-type}}/{day}":
        yield "what failed lies among what did not"


def matches(pattern: str, record: dict[str, Any]) -> bool:
    """Whether a pattern of CloudWatch Logs takes a log line; only the forms that the template uses."""
    body = re.fullmatch(r"\{ (.+) \}", pattern)
    for part in body[1].split(" && ") if body else ["?"]:
        term = re.fullmatch(r'\$\.(\w+) = "([^"]*)"', part)
        if not term:
            raise ValueError(f"cannot read `{part}` of `{pattern}`")
        field, word = term.groups()
        value = record.get(field)
        # `*` stands for any text.
        if value is None or (word != "*" and str(value) != word):
            return False
    return True


# --- Watching


def looked_at(alarm: dict[str, Any]) -> Iterator[tuple[Any, str, dict[str, Any]]]:
    """Namespace, name and dimensions of every metric of an alarm."""
    queries = [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
    for metric in [alarm] if "MetricName" in alarm else queries:
        dimensions = {one["Name"]: one["Value"] for one in metric.get("Dimensions", [])}
        yield metric["Namespace"], metric["MetricName"], dimensions


def counted(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, metric in of_type(template, "AWS::Logs::MetricFilter").items():
        for transformation in metric["MetricTransformations"]:
            yield name, transformation


def told_namespace(template: Template) -> Any:
    """Where the function says that its metrics belong."""
    return function(template).get("Environment", {}).get("Variables", {}).get("SLUICEGATE_METRICS_NAMESPACE")


@rule
def the_log_counts_what_the_function_cannot(template: Template) -> Iterator[str]:
    for name, metric in of_type(template, "AWS::Logs::MetricFilter").items():
        taken = [record for record in RECORDS if matches(metric["FilterPattern"], record)]
        wanted = COUNTED.get(metric["MetricTransformations"][0]["MetricName"], lambda record: False)
        if not taken or taken != [record for record in RECORDS if wanted(record)]:
            yield f"`{name}` takes other log lines than it should: {[record['message'] for record in taken]}"
        if metric["LogGroupName"] not in [{"Ref": group} for group in of_type(template, "AWS::Logs::LogGroup")]:
            yield f"`{name}` reads another log"
    for name, transformation in counted(template):
        if transformation["MetricNamespace"] != told_namespace(template):
            yield f"`{name}` counts in another namespace than the function"


@rule
def every_alarm_has_numbers_to_look_at(template: Template) -> Iterator[str]:
    """An alarm on a metric that nobody writes, or with other dimensions, is green for ever."""
    made = {transformation["MetricName"] for _, transformation in counted(template)}
    watched, edge_watched = set(), []
    for name, alarm in of_type(template, "AWS::CloudWatch::Alarm").items():
        if len(alarm.get("AlarmActions", [])) != 2 or alarm.get("TreatMissingData") != "notBreaching":
            yield f"`{name}` tells nobody, or fires when nothing happens"
        if "SEARCH" in str(alarm.get("Metrics")):
            yield f"`{name}` searches, which alarms cannot"
        for namespace, metric, dimensions in looked_at(alarm):
            watched.add(metric)
            if namespace == told_namespace(template):
                known = metrics().get(metric)
                wanted = known.labels if known and known.on_lambda else set() if metric in made else None
            else:
                wanted = AWS_METRICS.get((text(namespace), metric))
            if wanted is None or set(dimensions) != wanted:
                yield f"`{name}` looks at `{metric}` by {sorted(dimensions)}, which nothing makes"
            if metric == "FunctionExecutionErrors":
                edge_watched.append(dimensions.get("FunctionName"))
                if dimensions.get("Region") != "Global":
                    yield f"`{name}` looks at a metric that CloudFront does not publish"
    for event, edge in edge_functions(template).items():
        if edge.get("Name") not in edge_watched:
            yield f"nothing watches the {event} function"
    if watched != WATCHED:
        yield f"watched too much or not at all: {', '.join(sorted(watched ^ WATCHED))}"


@rule
def requests_without_the_table_are_all_counted(template: Template) -> Iterator[str]:
    """Both series of the metric, each in the sum; and the alarms of what is optional are optional."""
    alarm = template["Resources"].get("LimitsDegraded", {}).get("Properties", {})
    queries = {query["Id"]: query for query in alarm.get("Metrics", [])}
    sums = [query for query in queries.values() if query.get("ReturnData", True)]
    added = re.findall(r"FILL\((\w+), 0\)", sums[0].get("Expression", "")) if len(sums) == 1 else []
    if not sums or sums[0].get("Expression") != " + ".join(f"FILL({one}, 0)" for one in added):
        yield "the alarm is no plain sum"
    terms = [queries[one] for one in added if one in queries]
    values = [dimensions.get("fail") for _, _, dimensions in looked_at({"Metrics": terms})]
    if sorted(map(str, values)) != ["closed", "open"] or {term["MetricStat"].get("Stat") for term in terms} != {"Sum"}:
        yield f"the alarm adds up {values}"
    yield from switched(template, "LimitsDegraded", "HasSharedLimits", "SharedLimits")
    yield from switched(template, "UsageLate", "HasUsageRecords", "UsageRecords")


def dashboard(template: Template) -> tuple[str, dict[str, Any]]:
    """The text of the dashboard's body, and what is put into it."""
    body = the(template, "AWS::CloudWatch::Dashboard").get("DashboardBody", {}).get("Fn::Sub", "")
    return (body[0], body[1]) if isinstance(body, list) else (body, {})


Charted = tuple[str, str, frozenset[str], str]
SEARCH = re.compile(
    r"""(?:SUM\()?SEARCH\('\{"(.+?)",([\w,]+)\} MetricName="(\w+)"( \w+="\w+")?', '\w+', 300\)\)?"""
)


def charted(widget: dict[str, Any]) -> Iterator[Charted]:
    """Namespace, name, dimensions, and for a search the one value that it is for, of every line in a picture."""
    before: list[str] = []
    for metric in widget["properties"].get("metrics", []):
        if isinstance(metric[0], dict):
            found = SEARCH.fullmatch(metric[0]["expression"])
            if not found:
                raise ValueError(f"cannot read `{metric[0]['expression']}`")
            namespace, schema, name, value = found.groups()
            yield namespace, name, frozenset(schema.split(",")), (value or "").strip()
            continue
        given = [part for part in metric if isinstance(part, str)]
        # A dot stands for what the metric before it has at that place.
        before = [before[at] if part == "." else part for at, part in enumerate(given)]
        yield before[0], before[1], frozenset(before[2::2]), ""


@rule
def the_dashboard_shows_what_there_is(template: Template) -> Iterator[str]:
    body, filled = dashboard(template)
    try:
        lines = [line for widget in json.loads(body)["widgets"] for line in charted(widget)]
    except (ValueError, LookupError) as error:
        yield f"the dashboard cannot be read: {error}"
        return
    made = {transformation["MetricName"]: frozenset() for _, transformation in counted(template)}
    made |= {name: metric.labels for name, metric in metrics().items() if metric.on_lambda}
    shown = set()
    for namespace, name, dimensions, value in lines:
        if namespace.startswith("AWS/"):
            continue
        shown.add(name)
        if {"Fn::Sub": namespace} != told_namespace(template):
            yield f"`{name}` is looked for in `{namespace}`"
        if dimensions != made.get(name):
            yield f"`{name}` is looked for by {sorted(dimensions)}, which nothing makes"
        if value and value.split("=")[0] not in dimensions:
            yield f"`{name}` has no `{value}`"
    if shown != set(made) - NOT_SHOWN:
        yield f"shown too much or not at all: {', '.join(sorted(shown ^ (set(made) - NOT_SHOWN)))}"
    parts = {value for _, name, _, value in lines if name == "sluicegate_requests_total"}
    if parts != {f'outcome="{outcome}"' for outcome in outcomes()}:
        yield f"requests are shown for {sorted(parts)}"
    # Without a table its name stands for none.
    if filled != {"Limits": {"Fn::If": ["HasSharedLimits", {"Ref": "LimitsTable"}, "none"]}}:
        yield "the dashboard takes the table's name from elsewhere"
    for event, edge in edge_functions(template).items():
        name = edge.get("Name")
        if f'"{name.get("Fn::Sub") if isinstance(name, dict) else name}"' not in body:
            yield f"the dashboard shows nothing of the {event} function"


@rule
def the_rate_rule_is_for_cloudfront(template: Template) -> Iterator[str]:
    acl = the(template, "AWS::WAFv2::WebACL")
    limits = [r["Statement"]["RateBasedStatement"].get("Limit") for r in acl.get("Rules", [])]
    if acl.get("Scope") != "CLOUDFRONT" or limits != [{"Ref": "RequestsPerFiveMinutes"}]:
        yield "the web ACL does not limit what comes to CloudFront"
    wanted = [{"Assert": {"Fn::Equals": [{"Ref": "AWS::Region"}, "us-east-1"]}}]
    asserted = template.get("Rules", {}).get("WafIsInUsEast1", {}).get("Assertions", [])
    if [{"Assert": one["Assert"]} for one in asserted] != wanted:
        yield "in another region than us-east-1 the web ACL fails half-way"
