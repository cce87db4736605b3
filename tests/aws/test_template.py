"""The template obeys every rule of template.py, and each rule notices a template that is wrong in that one thing."""

import copy
import re
import unittest
from collections.abc import Callable

import template as stack
from template import RULES, TEMPLATE, Template, broken, of_type, read, translated

Change = Callable[[dict], None]


def put(path: str, value: object) -> Change:
    """Sets what stands at a path below `Resources`."""

    def change(resources: dict) -> None:
        parts = path.split("/")
        place = resources
        for part in parts[:-1]:
            place = place[int(part) if isinstance(place, list) else part]
        place[int(parts[-1]) if isinstance(place, list) else parts[-1]] = value

    return change


def drop(path: str) -> Change:
    def change(resources: dict) -> None:
        parts = path.split("/")
        place = resources
        for part in parts[:-1]:
            place = place[int(part) if isinstance(place, list) else part]
        del place[int(parts[-1]) if isinstance(place, list) else parts[-1]]

    return change


def add(path: str, value: object) -> Change:
    """Appends to the list at a path."""

    def change(resources: dict) -> None:
        place = resources
        for part in path.split("/"):
            place = place[int(part) if isinstance(place, list) else part]
        place.append(value)

    return change


def rewrite(path: str, old: str, new: str) -> Change:
    """Replaces a part of the text at a path."""

    def change(resources: dict) -> None:
        parts = path.split("/")
        place = resources
        for part in parts[:-1]:
            place = place[int(part) if isinstance(place, list) else part]
        at = int(parts[-1]) if isinstance(place, list) else parts[-1]
        place[at] = place[at].replace(old, new)

    return change


def make_public(resources: dict) -> None:
    """The function's URL by SAM's own property, open to everybody."""
    del resources["FunctionUrl"]
    resources["Function"]["Properties"]["FunctionUrlConfig"] = {"AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM"}


def swap_functions(resources: dict) -> None:
    """Each function runs where the other should."""
    associations = resources["Distribution"]["Properties"]["DistributionConfig"]["DefaultCacheBehavior"][
        "FunctionAssociations"
    ]
    first, second = associations
    first["FunctionARN"], second["FunctionARN"] = second["FunctionARN"], first["FunctionARN"]


CONFIG = "Distribution/Properties/DistributionConfig"
ORIGIN = f"{CONFIG}/Origins/0"
BEHAVIOUR = f"{CONFIG}/DefaultCacheBehavior"
CACHE = "CachePolicy/Properties/CachePolicyConfig"
KEYED = f"{CACHE}/ParametersInCacheKeyAndForwardedToOrigin"
VARIABLES = "Function/Properties/Environment/Variables"
POLICIES = "FunctionRole/Properties/Policies"
SIGNING = "OriginAccess/Properties/OriginAccessControlConfig"
VERIFIED = "every_request_is_verified_in_front_of_the_cache"
TOLD = "only_a_cache_that_verifies_is_told_to_keep"
FILLED = "the_store_is_the_operators_to_fill"
NUMBERS = "every_alarm_has_numbers_to_look_at"
COUNTS = "the_log_counts_what_the_function_cannot"
DEGRADED = "requests_without_the_table_are_all_counted"
SHOWS = "the_dashboard_shows_what_there_is"
TABLE = "limits_count_in_one_table_that_forgets"
STAYS = "usage_records_stay_and_stay_here"
LINES = "usage_is_every_proven_tenants_record"
DASHBOARD = "Dashboard/Properties/DashboardBody/Fn::Sub"
STREAM = "UsageStream/Properties/ExtendedS3DestinationConfiguration"
TABLE_RIGHT = f"{POLICIES}/2/Fn::If/1/PolicyDocument/Statement/0"
TRUST = "Properties/AssumeRolePolicyDocument/Statement/0"
OWN_RIGHTS = "Properties/Policies/0/PolicyDocument/Statement"
LASTING = ("Condition", "DeletionPolicy", "UpdateReplacePolicy")
STORE = {"KeyValueStoreARN": {"Fn::GetAtt": ["EdgeStore", "Arn"]}}
READS_THE_STORE = {
    "Effect": "Allow",
    "Action": "cloudfront-keyvaluestore:GetKey",
    "Resource": {"Fn::GetAtt": ["EdgeStore", "Arn"]},
}
PUBLIC = {
    "Type": "AWS::Lambda::Permission",
    "Properties": {
        "FunctionName": {"Fn::GetAtt": ["Function", "Arn"]},
        "Action": "lambda:InvokeFunctionUrl",
        "Principal": "*",
        "FunctionUrlAuthType": "NONE",
    },
}

# The rule that must notice, and one thing that is wrong.
MUTANTS: list[tuple[str, Change]] = [
    ("the_url_streams", put("FunctionUrl/Properties/InvokeMode", "BUFFERED")),
    ("the_url_streams", drop("FunctionUrl/Properties/InvokeMode")),
    ("the_url_takes_signed_requests_alone", put("FunctionUrl/Properties/AuthType", "NONE")),
    ("the_url_takes_signed_requests_alone", put("UrlPermission/Properties/FunctionUrlAuthType", "NONE")),
    # SAM adds a permission for everybody to such a URL.
    ("the_url_takes_signed_requests_alone", make_public),
    ("cloudfront_alone_may_call", drop("UrlPermission")),
    ("cloudfront_alone_may_call", drop("InvokePermission")),
    ("cloudfront_alone_may_call", drop("UrlPermission/Properties/SourceArn")),
    ("cloudfront_alone_may_call", drop("InvokePermission/Properties/SourceArn")),
    ("cloudfront_alone_may_call", drop("InvokePermission/Properties/InvokedViaFunctionUrl")),
    ("cloudfront_alone_may_call", put("UrlPermission/Properties/Principal", "*")),
    ("cloudfront_alone_may_call", put("Public", PUBLIC)),
    ("cloudfront_signs_every_request", put(f"{SIGNING}/SigningBehavior", "no-override")),
    ("cloudfront_signs_every_request", put(f"{SIGNING}/SigningBehavior", "never")),
    ("cloudfront_signs_every_request", put(f"{SIGNING}/OriginAccessControlOriginType", "s3")),
    ("cloudfront_signs_every_request", drop(f"{ORIGIN}/OriginAccessControlId")),
    ("cloudfront_signs_every_request", put(f"{ORIGIN}/CustomOriginConfig/OriginProtocolPolicy", "match-viewer")),
    ("cloudfront_signs_every_request", put(f"{ORIGIN}/DomainName", "elsewhere.example.com")),
    ("cloudfront_signs_every_request", add(f"{CONFIG}/Origins", {"Id": "other", "DomainName": "example.com"})),
    *[("no_error_is_cached", drop(f"{CONFIG}/CustomErrorResponses/{at}")) for at in range(11)],
    ("no_error_is_cached", put(f"{CONFIG}/CustomErrorResponses/2/ErrorCachingMinTTL", 10)),
    ("no_error_is_cached", put(f"{CONFIG}/CustomErrorResponses/2/ResponsePagePath", "/error.html")),
    ("the_cache_key_is_url_and_partition", add(f"{KEYED}/QueryStringsConfig/QueryStrings", "sig")),
    ("the_cache_key_is_url_and_partition", put(f"{KEYED}/HeadersConfig", {"HeaderBehavior": "none"})),
    ("the_cache_key_is_url_and_partition", put(f"{KEYED}/CookiesConfig/CookieBehavior", "all")),
    ("the_cache_key_is_url_and_partition", put(f"{KEYED}/EnableAcceptEncodingGzip", True)),
    ("nothing_is_cached_that_does_not_say_so", put(f"{CACHE}/MinTTL", 1)),
    ("nothing_is_cached_that_does_not_say_so", put(f"{CACHE}/DefaultTTL", 86400)),
    (
        "nothing_is_cached_that_does_not_say_so",
        put(f"{BEHAVIOUR}/CachePolicyId", "658327ea-f89d-4fab-a63d-7e88639e58f6"),
    ),
    ("nothing_is_cached_that_does_not_say_so", put(f"{CONFIG}/CacheBehaviors", [{"PathPattern": "*.mp4"}])),
    ("authorization_is_named_nowhere", add(f"{KEYED}/HeadersConfig/Headers", "Authorization")),
    (
        "authorization_is_named_nowhere",
        put(
            "AllExcept",
            {
                "Type": "AWS::CloudFront::OriginRequestPolicy",
                "Properties": {"HeadersConfig": {"HeaderBehavior": "allExcept", "Headers": ["host", "authorization"]}},
            },
        ),
    ),
    (
        "the_origin_sees_every_header_but_host",
        put(f"{BEHAVIOUR}/OriginRequestPolicyId", "216adef6-5c7f-47e4-b989-5492eafa07d3"),
    ),
    ("the_origin_sees_every_header_but_host", drop(f"{BEHAVIOUR}/OriginRequestPolicyId")),
    ("clients_come_over_https_with_three_methods", put(f"{BEHAVIOUR}/ViewerProtocolPolicy", "allow-all")),
    ("clients_come_over_https_with_three_methods", put(f"{BEHAVIOUR}/ViewerProtocolPolicy", "redirect-to-https")),
    ("clients_come_over_https_with_three_methods", add(f"{BEHAVIOUR}/AllowedMethods", "POST")),
    (
        "clients_come_over_https_with_three_methods",
        put(f"{CONFIG}/ViewerCertificate/Fn::If/1/MinimumProtocolVersion", "TLSv1"),
    ),
    ("nothing_is_cached_that_does_not_say_so", put(f"{CACHE}/MaxTTL", 86401)),
    ("nothing_is_cached_that_does_not_say_so", drop(f"{CACHE}/MaxTTL")),
    ("the_cache_key_is_url_and_partition", put(f"{KEYED}/QueryStringsConfig/QueryStrings", [])),
    ("the_cache_key_is_url_and_partition", add(f"{KEYED}/HeadersConfig/Headers", "x-sluicegate-client")),
    # Passes everything on, verified or not.
    (VERIFIED, put("ViewerRequest/Properties/FunctionCode", "function handler(event) { return event.request; }\n")),
    (VERIFIED, put("ViewerRequest/Properties/FunctionConfig/Runtime", "cloudfront-js-1.0")),
    (VERIFIED, put("ViewerRequest/Properties/AutoPublish", False)),
    (VERIFIED, put("ViewerRequest/Properties/Name", "viewer-request")),
    (VERIFIED, put("ViewerResponse/Properties/FunctionConfig/Runtime", "cloudfront-js-1.0")),
    (VERIFIED, put("ViewerResponse/Properties/AutoPublish", False)),
    (VERIFIED, drop("ViewerRequest/Properties/FunctionConfig/KeyValueStoreAssociations")),
    (VERIFIED, put("ViewerRequest/Properties/FunctionConfig/KeyValueStoreAssociations/0/KeyValueStoreARN", "arn:x")),
    (VERIFIED, put("ViewerResponse/Properties/FunctionConfig/KeyValueStoreAssociations", [STORE])),
    (VERIFIED, put("OtherStore", {"Type": "AWS::CloudFront::KeyValueStore", "Properties": {"Name": "other"}})),
    (VERIFIED, drop("EdgeStore")),
    (VERIFIED, drop(f"{BEHAVIOUR}/FunctionAssociations")),
    (VERIFIED, drop(f"{BEHAVIOUR}/FunctionAssociations/0")),
    (VERIFIED, drop(f"{BEHAVIOUR}/FunctionAssociations/1")),
    (VERIFIED, put(f"{BEHAVIOUR}/FunctionAssociations/0/EventType", "viewer-response")),
    (VERIFIED, put(f"{BEHAVIOUR}/FunctionAssociations/1/EventType", "viewer-request")),
    (VERIFIED, swap_functions),
    ("edge_code_fits", put("ViewerRequest/Properties/FunctionCode", "/" * 10_241)),
    ("edge_code_fits", put("ViewerResponse/Properties/FunctionCode", "ä" * 5_121)),
    ("edge_code_fits", drop("ViewerResponse/Properties/FunctionCode")),
    (TOLD, drop("ViewerRequest/Properties/FunctionConfig/KeyValueStoreAssociations")),
    (TOLD, drop(f"{BEHAVIOUR}/FunctionAssociations/0")),
    (TOLD, put("ViewerRequest/Properties/FunctionCode", "function handler(event) { return event.request; }\n")),
    (TOLD, put(f"{VARIABLES}/SLUICEGATE_EDGE_SHARED_CACHE", "false")),
    (TOLD, drop(f"{VARIABLES}/SLUICEGATE_EDGE_SHARED_CACHE")),
    (TOLD, put(f"{VARIABLES}/SLUICEGATE_EDGE_SHARED_CACHE", {"Fn::If": ["HasDomain", "true", "false"]})),
    (FILLED, put("EdgeStore/Properties/ImportSource", {"SourceType": "S3", "SourceArn": "arn:aws:s3:::bucket/keys"})),
    (FILLED, put(f"{VARIABLES}/SLUICEGATE_STORE", {"Fn::GetAtt": ["EdgeStore", "Arn"]})),
    (FILLED, add(f"{POLICIES}/1/PolicyDocument/Statement", READS_THE_STORE)),
    (FILLED, add(f"{POLICIES}/1/PolicyDocument/Statement", READS_THE_STORE | {"Resource": "arn:x"})),
    ("rights_are_these_and_no_others", add(f"{POLICIES}/1/PolicyDocument/Statement", READS_THE_STORE)),
    ("nothing_here_is_a_key", put("ViewerRequest/Properties/FunctionCode", "var key = 'sgk1_decoy';")),
    ("nothing_here_is_a_key", put("Keys/Properties/SecretString", '{"acme-1": "sgk1_decoy"}')),
    ("time_runs_out_from_the_inside", drop(f"{VARIABLES}/SLUICEGATE_TIMEOUTS_TRANSFER")),
    ("time_runs_out_from_the_inside", put(f"{ORIGIN}/ResponseCompletionTimeout", 120)),
    ("time_runs_out_from_the_inside", put(f"{ORIGIN}/CustomOriginConfig/OriginReadTimeout", 30)),
    ("time_runs_out_from_the_inside", put(f"{ORIGIN}/ConnectionAttempts", 3)),
    ("no_right_has_a_wildcard", put(f"{POLICIES}/1/PolicyDocument/Statement/0/Resource", "*")),
    ("no_right_has_a_wildcard", put(f"{POLICIES}/1/PolicyDocument/Statement/0/Action", "secretsmanager:*")),
    (
        "no_right_has_a_wildcard",
        put(
            f"{POLICIES}/0/PolicyDocument/Statement/0/Resource",
            {"Fn::Sub": "arn:aws:logs:*:*:log-group:${FunctionLogs}"},
        ),
    ),
    ("no_right_has_a_wildcard", put(f"{POLICIES}/1/PolicyDocument/Statement/1/Fn::If/1/NotResource", "x")),
    (
        "rights_are_these_and_no_others",
        put(f"{POLICIES}/1/PolicyDocument/Statement/0/Action", "secretsmanager:PutSecretValue"),
    ),
    ("rights_are_these_and_no_others", drop(f"{POLICIES}/1/PolicyDocument/Statement/3")),
    (
        "rights_are_these_and_no_others",
        put(
            "FunctionRole/Properties/ManagedPolicyArns",
            ["arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"],
        ),
    ),
    (
        "rights_are_these_and_no_others",
        put("FunctionRole/Properties/AssumeRolePolicyDocument/Statement/0/Principal", {"AWS": "123456789012"}),
    ),
    ("the_keys_outlive_the_stack", drop("Keys/DeletionPolicy")),
    ("the_keys_outlive_the_stack", put("Keys/UpdateReplacePolicy", "Delete")),
    ("the_keys_outlive_the_stack", put("Keys/Properties/Name", "keys")),
    ("the_keys_outlive_the_stack", put("Keys/Properties/SecretString", "{}")),
    ("the_keys_outlive_the_stack", put("Keys/Properties/GenerateSecretString/PasswordLength", 16)),
    (
        "nothing_depends_on_itself",
        put(f"{VARIABLES}/SLUICEGATE_BASE", {"Fn::Sub": "https://${Distribution.DomainName}"}),
    ),
    ("nothing_depends_on_itself", put("Function/DependsOn", "UrlPermission")),
    ("the_function_is_built_from_this_package", put("Function/Properties/Runtime", "provided.al2")),
    ("the_function_is_built_from_this_package", put("Function/Properties/Layers", [])),
    ("the_function_is_built_from_this_package", put(f"{VARIABLES}/SLUICEGATE_POLICY", "policy")),
    ("the_function_is_built_from_this_package", put(f"{VARIABLES}/SLUICEGATE_LOG", "text")),
    ("the_function_is_built_from_this_package", put("Function/Properties/Architectures", ["arm64"])),
    ("logs_end", drop("FunctionLogs/Properties/RetentionInDays")),
    ("logs_end", drop("Function/Properties/LoggingConfig")),
    ("logs_end", put("Function/Properties/LoggingConfig/LogFormat", "Text")),
    (COUNTS, put("ErrorLineFilter/Properties/FilterPattern", '{ $.level = "WARN" }')),
    (COUNTS, put("ErrorLineFilter/Properties/FilterPattern", '{ $.level = "*" }')),
    (COUNTS, put("ErrorLineFilter/Properties/FilterPattern", '{ $.severity = "ERROR" }')),
    (COUNTS, put("ErrorLineFilter/Properties/LogGroupName", "/elsewhere")),
    (COUNTS, put("ErrorLineFilter/Properties/MetricTransformations/0/MetricNamespace", "Sluicegate")),
    (NUMBERS, put(f"{VARIABLES}/SLUICEGATE_METRICS_NAMESPACE", "Sluicegate")),
    (NUMBERS, drop(f"{VARIABLES}/SLUICEGATE_METRICS_NAMESPACE")),
    (NUMBERS, put("AbortedStreams/Properties/Namespace", "Sluicegate")),
    (NUMBERS, put("AbortedStreams/Properties/MetricName", "sluicegate_truncated_total")),
    (NUMBERS, put("AbortedStreams/Properties/Dimensions", [{"Name": "tenant", "Value": "acme"}])),
    # There is such a metric, but none without its labels.
    (NUMBERS, put("AbortedStreams/Properties/MetricName", "sluicegate_requests_total")),
    (NUMBERS, put("AbortedStreams/Properties/MetricName", "sluicegate_refused_total")),
    (NUMBERS, put("AbortedStreams/Properties/MetricName", "sluicegate_connections_active")),
    (NUMBERS, put("LimitsDegraded/Properties/Metrics/1/MetricStat/Metric/Dimensions", [])),
    (NUMBERS, put("LimitsDegraded/Properties/Metrics/2/MetricStat/Metric/Namespace", "Sluicegate")),
    (NUMBERS, put("LimitsDegraded/Properties/Metrics/0/Expression", "SUM(SEARCH('{x,fail} degraded', 'Sum', 300))")),
    (NUMBERS, put("UsageLate/Properties/Dimensions/0/Name", "StreamName")),
    (NUMBERS, drop("ErrorLineFilter")),
    *[(NUMBERS, drop(name)) for name in ("ErrorLines", "AbortedStreams", "LimitsDegraded", "UsageLate")],
    (NUMBERS, drop("EdgeFailures")),
    (NUMBERS, drop("EdgeAnswerFailures")),
    (NUMBERS, put("EdgeFailures/Properties/Dimensions/1/Value", "us-east-1")),
    (NUMBERS, put("ViewerResponse/Properties/Name", "renamed")),
    (NUMBERS, drop("Throttles/Properties/AlarmActions")),
    (NUMBERS, put("LimitsDegraded/Properties/TreatMissingData", "breaching")),
    (DEGRADED, put("LimitsDegraded/Properties/Metrics/0/Expression", "FILL(open, 0)")),
    (DEGRADED, put("LimitsDegraded/Properties/Metrics/0/Expression", "open + closed")),
    (DEGRADED, put("LimitsDegraded/Properties/Metrics/0/Expression", "FILL(open, 0) + FILL(open, 0)")),
    (DEGRADED, put("LimitsDegraded/Properties/Metrics/2/MetricStat/Metric/Dimensions/0/Value", "shut")),
    (DEGRADED, put("LimitsDegraded/Properties/Metrics/2/MetricStat/Stat", "Average")),
    (DEGRADED, drop("LimitsDegraded/Properties/Metrics/1/ReturnData")),
    (DEGRADED, drop("LimitsDegraded/Condition")),
    (DEGRADED, drop("UsageLate/Condition")),
    (SHOWS, put(f"{DASHBOARD}/0", "{")),
    (SHOWS, put(f"{DASHBOARD}/1/Limits", "limits")),
    (SHOWS, rewrite(f"{DASHBOARD}/0", "sluicegate_first_byte_seconds", "sluicegate_first_byte")),
    (SHOWS, rewrite(f"{DASHBOARD}/0", "sluicegate_resumes_total", "sluicegate_refused_total")),
    (SHOWS, rewrite(f"{DASHBOARD}/0", ",code,outcome,tenant}", ",code,outcome}")),
    (SHOWS, rewrite(f"{DASHBOARD}/0", ",result}", ",outcome}")),
    (SHOWS, rewrite(f"{DASHBOARD}/0", 'outcome=\\"unanswered\\"', 'outcome=\\"left\\"')),
    (SHOWS, rewrite(f"{DASHBOARD}/0", "SUM(SEARCH(", "MAX(SEARCH(")),
    (SHOWS, rewrite(f"{DASHBOARD}/0", '"fail", "open"', '"failing", "open"')),
    (SHOWS, rewrite(f"{DASHBOARD}/0", "Sluicegate/${AWS::StackName}", "Sluicegate")),
    (SHOWS, rewrite(f"{DASHBOARD}/0", "-viewer-response", "-viewer")),
    (SHOWS, put(f"{VARIABLES}/SLUICEGATE_METRICS_NAMESPACE", "Sluicegate")),
    (TABLE, drop("LimitsTable/Condition")),
    (TABLE, put("LimitsTable/Properties/BillingMode", "PROVISIONED")),
    (TABLE, drop("LimitsTable/Properties/BillingMode")),
    (TABLE, put("LimitsTable/Properties/KeySchema/0/AttributeName", "key")),
    (TABLE, put("LimitsTable/Properties/AttributeDefinitions/0/AttributeType", "N")),
    (TABLE, add("LimitsTable/Properties/KeySchema", {"AttributeName": "day", "KeyType": "RANGE"})),
    (TABLE, drop("LimitsTable/Properties/TimeToLiveSpecification")),
    (TABLE, put("LimitsTable/Properties/TimeToLiveSpecification/AttributeName", "ttl")),
    (TABLE, put("LimitsTable/Properties/TimeToLiveSpecification/Enabled", False)),
    (TABLE, put("LimitsTable/Properties/StreamSpecification", {"StreamViewType": "NEW_IMAGE"})),
    (TABLE, put("OtherTable", {"Type": "AWS::DynamoDB::Table", "Properties": {}})),
    (TABLE, drop(f"{VARIABLES}/SLUICEGATE_LIMITS_STORE")),
    (TABLE, put(f"{VARIABLES}/SLUICEGATE_LIMITS_STORE", "process")),
    (TABLE, put(f"{VARIABLES}/SLUICEGATE_LIMITS_STORE/Fn::If/0", "HasWaf")),
    (TABLE, put(f"{POLICIES}/2/Fn::If/0", "HasWaf")),
    ("rights_are_these_and_no_others", drop(f"{POLICIES}/2")),
    ("rights_are_these_and_no_others", put(f"{TABLE_RIGHT}/Action", ["dynamodb:UpdateItem", "dynamodb:DeleteItem"])),
    ("no_right_has_a_wildcard", put(f"{TABLE_RIGHT}/Action", "dynamodb:*")),
    ("no_right_has_a_wildcard", put(f"{TABLE_RIGHT}/Resource", {"Fn::Sub": "${LimitsTable.Arn}*"})),
    ("rights_are_these_and_no_others", put(f"{TABLE_RIGHT}/Resource", {"Fn::GetAtt": ["UsageBucket", "Arn"]})),
    *[(STAYS, drop(f"{name}/{what}")) for name in ("UsageBucket", "UsageBucketPolicy") for what in LASTING],
    (STAYS, put("UsageBucket/DeletionPolicy", "Delete")),
    (STAYS, drop("UsageBucket/Properties/BucketEncryption")),
    (STAYS, drop("UsageBucket/Properties/OwnershipControls")),
    (STAYS, put("UsageBucket/Properties/PublicAccessBlockConfiguration/BlockPublicPolicy", False)),
    (STAYS, drop("UsageBucket/Properties/PublicAccessBlockConfiguration")),
    (STAYS, put("UsageBucket/Properties/LifecycleConfiguration/Rules/0/Status", "Disabled")),
    (STAYS, put("UsageBucket/Properties/LifecycleConfiguration/Rules/0/ExpirationInDays", 1)),
    (STAYS, drop("UsageBucket/Properties/LifecycleConfiguration")),
    (STAYS, drop("UsageBucketPolicy")),
    (STAYS, put("UsageBucketPolicy/Properties/PolicyDocument/Statement/0/Effect", "Allow")),
    (STAYS, drop("UsageBucketPolicy/Properties/PolicyDocument/Statement/0/Condition")),
    (STAYS, drop("UsageBucketPolicy/Properties/PolicyDocument/Statement/0/Resource/1")),
    (STAYS, put("OtherBucket", {"Type": "AWS::S3::Bucket", "Properties": {}})),
    (LINES, drop("UsageFilter/Condition")),
    (LINES, drop("UsageStream/Condition")),
    (LINES, put("UsageFilter/Properties/FilterPattern", '{ $.target = "sluicegate::decision" }')),
    (LINES, put("UsageFilter/Properties/FilterPattern", '{ $.tenant = "acme" && $.outcome = "whole" }')),
    (LINES, put("UsageFilter/Properties/LogGroupName", "/elsewhere")),
    (LINES, put("UsageFilter/Properties/DestinationArn", "arn:aws:firehose:us-east-1:123456789012:deliverystream/x")),
    (LINES, put("UsageFilter/Properties/RoleArn", {"Fn::GetAtt": ["UsageDeliveryRole", "Arn"]})),
    (LINES, drop("UsageStream/Properties/DeliveryStreamEncryptionConfigurationInput")),
    (LINES, put(f"{STREAM}/BucketARN", "arn:aws:s3:::elsewhere")),
    (LINES, put(f"{STREAM}/RoleARN", {"Fn::GetAtt": ["UsageFilterRole", "Arn"]})),
    *[(LINES, drop(f"{STREAM}/ProcessingConfiguration/Processors/{at}")) for at in range(3)],
    (LINES, put(f"{STREAM}/ProcessingConfiguration/Enabled", False)),
    (LINES, put(f"{STREAM}/ProcessingConfiguration/Processors/1/Parameters/0/ParameterValue", "false")),
    (LINES, put(f"{STREAM}/CompressionFormat", "GZIP")),
    (LINES, drop(f"{STREAM}/FileExtension")),
    (LINES, drop(f"{STREAM}/Prefix")),
    (LINES, put(f"{STREAM}/ErrorOutputPrefix", "decisions/failed/")),
    ("rights_are_these_and_no_others", drop(f"UsageDeliveryRole/{TRUST}/Condition")),
    ("rights_are_these_and_no_others", drop(f"UsageFilterRole/{TRUST}/Condition")),
    ("rights_are_these_and_no_others", drop(f"UsageDeliveryRole/{OWN_RIGHTS}/1")),
    ("rights_are_these_and_no_others", add(f"UsageDeliveryRole/{OWN_RIGHTS}/1/Action", "s3:DeleteObject")),
    # The rights of one role in the hands of another.
    ("rights_are_these_and_no_others", put("Function/Properties/Role", {"Fn::GetAtt": ["UsageDeliveryRole", "Arn"]})),
    ("no_right_has_a_wildcard", put(f"UsageFilterRole/{OWN_RIGHTS}/0/Action", "firehose:*")),
    ("no_right_has_a_wildcard", put(f"UsageDeliveryRole/{OWN_RIGHTS}/1/Resource", "arn:aws:s3:::*")),
    ("the_rate_rule_is_for_cloudfront", put("RateRule/Properties/Scope", "REGIONAL")),
]

# Breaks only what SAM reads: the translated form has no trace of it, or SAM refuses to make one.
SAM_MUTANTS: list[tuple[str, Change]] = [
    (
        "the_url_takes_signed_requests_alone",
        put("Function/Properties/FunctionUrlConfig", {"AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM"}),
    ),
    # Without a role of ours SAM makes one, with the managed policy that may write to every log group.
    ("rights_are_these_and_no_others", drop("Function/Properties/Role")),
    ("the_function_is_built_from_this_package", put("Function/Metadata/BuildProperties/Binary", "sluicegate")),
    # SAM would then upload the folder as it lies there, secrets included.
    ("the_function_is_built_from_this_package", drop("PolicyLayer/Metadata")),
    ("the_function_is_built_from_this_package", put("PolicyLayer/Properties/ContentUri", ".")),
]

# What stands outside `Resources`.
OUTER_MUTANTS: list[tuple[str, Change]] = [
    ("time_runs_out_from_the_inside", put("Mappings/Seconds/300/transfer", "300s")),
    ("time_runs_out_from_the_inside", put("Mappings/Seconds/900/complete", 900)),
    ("time_runs_out_from_the_inside", add("Parameters/Timeout/AllowedValues", 60)),
    ("no_right_has_a_wildcard", drop("Parameters/MoreSecretArns/AllowedPattern")),
    ("no_right_has_a_wildcard", put("Parameters/KmsKeyArn/AllowedPattern", "arn:.+")),
    ("no_right_has_a_wildcard", put("Parameters/MoreParameterArns/AllowedPattern", "|arn:aws:ssm:[a-z]+")),
    ("the_rate_rule_is_for_cloudfront", drop("Rules/WafIsInUsEast1")),
    (TABLE, put("Conditions/HasSharedLimits", {"Fn::Equals": [{"Ref": "UsageRecords"}, "true"]})),
    (STAYS, put("Conditions/HasUsageRecords", {"Fn::Equals": [{"Ref": "UsageRecords"}, "false"]})),
    (FILLED, drop("Outputs/EdgeStore")),
    (FILLED, put("Outputs/EdgeStore/Value", {"Ref": "EdgeStore"})),
    ("nothing_here_is_a_key", put("Parameters/FirstKeyId/Default", "sgk1_decoy")),
]


class TheTemplate(unittest.TestCase):
    def test_obeys_every_rule_as_written(self) -> None:
        self.assertEqual(broken(read()), {})

    def test_obeys_every_rule_as_translated(self) -> None:
        self.assertEqual(broken(translated(read())), {})

    def test_translated_has_nothing_that_was_not_written(self) -> None:
        written, expanded = read()["Resources"], translated(read())["Resources"]
        versioned = {name for name in expanded if name.startswith("PolicyLayer")}
        self.assertEqual(set(expanded) - versioned, set(written) - {"PolicyLayer"})
        self.assertEqual(len(versioned), 1)

    def test_uses_no_yaml_aliases_which_cloudformation_does_not_read(self) -> None:
        for number, line in enumerate(TEMPLATE.read_text(encoding="utf-8").splitlines(), 1):
            self.assertIsNone(re.search(r"[:-] [&*][A-Za-z]", line), f"line {number}: {line}")

    def test_parameters_take_their_defaults_and_refuse_what_is_wrong(self) -> None:
        parameters = read()["Parameters"]
        for name, parameter in parameters.items():
            self.assertTrue(parameter.get("Description"), name)
            if "AllowedPattern" in parameter:
                self.assertIsNotNone(re.search(parameter["AllowedPattern"], parameter["Default"]), name)
        for name, good, bad in [
            ("MaxBytes", ["100 MB", "1GiB", "1048576"], ["", "0", "lots", "200 mb"]),
            ("FirstKeyId", ["acme-1", "a"], ["", "Acme", "-a", "a b", "a" * 65]),
            ("SecretsMaxAge", ["30s", "5m", "1h"], ["", "0s", "5", "soon"]),
            (
                "DomainName",
                ["", "files.example.com"],
                ["example", "*.example.com", "https://a.b", "a.b/c", "A.example"],
            ),
            (
                "CertificateArn",
                ["", "arn:aws:acm:us-east-1:123456789012:certificate/0a1b-2c"],
                ["arn:aws:acm:eu-west-1:123456789012:certificate/0a1b-2c"],
            ),
            ("RequestsPerFiveMinutes", ["0", "10", "100000"], ["", "9", "-1", "010"]),
            ("AlarmEmail", ["", "a@example.com"], ["nobody", "a@b,c@d"]),
            ("MetricTenants", ["", "acme", "a-1", "a" * 63], ["Acme", "acme.eu", "-a", "acme, globex", "*", "a" * 64]),
            (
                "MoreSecretArns",
                ["", "arn:aws:secretsmanager:us-east-1:123456789012:secret:acme/key-AbCdEf"],
                ["acme/key", "arn:aws:secretsmanager:us-east-1:123456789012:secret:acme/*"],
            ),
            (
                "MoreParameterArns",
                ["", "arn:aws:ssm:us-east-1:123456789012:parameter/acme/key"],
                ["/acme/key", "arn:aws:ssm:us-east-1:123456789012:parameter/acme/*"],
            ),
        ]:
            for value in good:
                self.assertIsNotNone(re.search(parameters[name]["AllowedPattern"], value), f"{name}: {value}")
            for value in bad:
                self.assertIsNone(re.search(parameters[name]["AllowedPattern"], value), f"{name}: {value}")


class EveryRule(unittest.TestCase):
    """Mutation tests: a rule that a wrong template passes is no rule."""

    def assert_noticed(self, rule: str, mutant: Template, form: str) -> None:
        self.assertIn(rule, broken(mutant), f"the template {form} is wrong, and `{rule}` does not say so")

    def test_notices_what_is_wrong_in_the_file(self) -> None:
        for at, (rule, change) in enumerate(MUTANTS + SAM_MUTANTS):
            with self.subTest(rule=rule, mutant=at):
                mutant = read()
                change(mutant["Resources"])
                self.assertNotEqual(mutant, read(), "the mutation changes nothing")
                self.assert_noticed(rule, mutant, "as written")
        for at, (rule, change) in enumerate(OUTER_MUTANTS):
            with self.subTest(rule=rule, outer=at):
                mutant = read()
                change(mutant)
                self.assert_noticed(rule, mutant, "as written")

    def test_notices_it_in_what_sam_makes_of_it(self) -> None:
        for at, (rule, change) in enumerate(MUTANTS):
            with self.subTest(rule=rule, mutant=at):
                mutant = read()
                change(mutant["Resources"])
                self.assert_noticed(rule, translated(mutant), "as translated")

    def test_notices_the_permission_for_everybody_that_sam_would_add(self) -> None:
        mutant = read()
        make_public(mutant["Resources"])
        expanded = translated(mutant)
        everybody = [p for p in of_type(expanded, "AWS::Lambda::Permission").values() if p["Principal"] == "*"]
        self.assertTrue(everybody, "SAM adds no such permission any more")
        self.assert_noticed("cloudfront_alone_may_call", expanded, "as translated")

    def test_has_a_mutant(self) -> None:
        tried = {rule for rule, _ in MUTANTS + SAM_MUTANTS + OUTER_MUTANTS}
        self.assertEqual(tried, set(RULES))

    def test_leaves_the_template_alone(self) -> None:
        """The rules only read; otherwise one could hide what the next must see."""
        template = read()
        before = copy.deepcopy(template)
        broken(template)
        self.assertEqual(template, before)
        self.assertTrue(stack.RECORDS)


if __name__ == "__main__":
    unittest.main()
