"""Writes the configuration of a local CloudFront: nginx with njs, which runs functions and cache of template.yaml.

    .tools/sam/bin/python edge/local/cloudfront.py --origin http://127.0.0.1:8080 --store STORE --folder OUT
    nginx -p OUT/ -c nginx.conf -e error.log

Everything comes from the template, so the two cannot drift apart: the code of the functions, the key and the times of
the cache, which errors are kept, which methods are allowed. What the template says and this does not model is refused,
by name. README.md says where the real one differs.
"""

import argparse
import ipaddress
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE.parent.parent / "template.yaml"
# Managed-AllViewerExceptHostHeader.
ORIGIN_REQUEST_POLICY = "b689b0a8-53d0-40ab-baf2-68738e2966ac"
# Where distributions of Linux keep nginx's modules, beside what `nginx -V` names.
MODULE_FOLDERS = [
    "/usr/lib/nginx/modules",
    "/usr/lib64/nginx/modules",
    "/usr/share/nginx/modules",
    "/etc/nginx/modules",
]
# Linux takes so many bytes of a Unix socket's path.
SOCKET_PATH_BYTES = 107
# CloudFront's own, where a distribution does not say.
ORIGIN_READ_TIMEOUT = 30

# What a distribution may say here. `True`: it is modelled. `False`: it makes no difference on loopback, where there is
# no TLS, no DNS, no bill and no firewall. Whatever is missing here is refused.
DISTRIBUTION = {
    "DefaultCacheBehavior": True,
    "CustomErrorResponses": True,
    "Origins": True,
    "Enabled": True,
    "Comment": False,
    "HttpVersion": False,
    "IPV6Enabled": False,
    "PriceClass": False,
    "Aliases": False,
    "ViewerCertificate": False,
    "WebACLId": False,
    "Logging": False,
}
BEHAVIOUR = {
    "TargetOriginId": True,
    "AllowedMethods": True,
    "CachedMethods": True,
    "Compress": True,
    "CachePolicyId": True,
    "OriginRequestPolicyId": True,
    "FunctionAssociations": True,
    "ViewerProtocolPolicy": False,
}
ORIGIN = {
    "Id": True,
    "OriginAccessControlId": True,
    "CustomOriginConfig": True,
    "ConnectionAttempts": True,
    "DomainName": False,
    "ConnectionTimeout": False,
    "ResponseCompletionTimeout": False,
}
CUSTOM_ORIGIN = {
    "OriginReadTimeout": True,
    "OriginProtocolPolicy": False,
    "OriginSSLProtocols": False,
    "OriginKeepaliveTimeout": False,
}
CACHE = {
    "MinTTL": True,
    "DefaultTTL": True,
    "MaxTTL": True,
    "ParametersInCacheKeyAndForwardedToOrigin": True,
    "Name": False,
    "Comment": False,
}
KEY = {
    "EnableAcceptEncodingBrotli": True,
    "EnableAcceptEncodingGzip": True,
    "QueryStringsConfig": True,
    "HeadersConfig": True,
    "CookiesConfig": True,
}
ERROR = {"ErrorCode": True, "ErrorCachingMinTTL": True}
FUNCTION = {
    "AutoPublish": True,
    "FunctionCode": True,
    "FunctionConfig": True,
    "Name": False,
}
FUNCTION_CONFIG = {"Runtime": True, "KeyValueStoreAssociations": True, "Comment": False}


class Refused(Exception):
    """The sentence for whoever called."""


@dataclass
class Distribution:
    """What of the template the configuration and the njs code are made of."""

    methods: list[str]
    # None: every parameter of the query is in the key.
    key_queries: list[str] | None
    key_headers: list[str]
    min_ttl: int
    default_ttl: int
    max_ttl: int
    # Least seconds by status code.
    errors: dict[int, int]
    read_timeout: int
    signed: bool
    has_store: bool = False
    # Code by event type.
    functions: dict[str, str] = field(default_factory=dict)


# --- Reading the template


class Template:
    """Looks things up in a template, and refuses what it cannot."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def only(self, kind: str) -> dict[str, Any]:
        found = [one["Properties"] for one in self.document["Resources"].values() if one["Type"] == kind]
        if len(found) != 1:
            raise Refused(f"the template has {len(found)} resources of type `{kind}`; only one is modelled")
        return found[0]

    def value(self, value: Any) -> Any:
        """The value, or the default of the parameter that it refers to."""
        if isinstance(value, dict) and list(value) == ["Ref"]:
            parameter = self.document.get("Parameters", {}).get(value["Ref"], {})
            if "Default" in parameter:
                return parameter["Default"]
        if isinstance(value, dict):
            raise Refused(f"`{json.dumps(value)}` is not modelled; only a value or a parameter with a default is")
        return value

    def resource(self, reference: Any, kind: str) -> dict[str, Any]:
        """The resource that `!Ref`, `!GetAtt` or no more than its id names."""
        name = None
        if isinstance(reference, dict):
            name = reference.get("Ref") or reference.get("Fn::GetAtt")
        name = name[0] if isinstance(name, list) else str(name).split(".")[0]
        found = self.document["Resources"].get(name, {})
        if found.get("Type") != kind:
            raise Refused(f"`{json.dumps(reference)}` is no `{kind}` of this template; nothing else is modelled")
        return found["Properties"]


def known(section: dict[str, Any], where: str, modelled: dict[str, bool]) -> dict[str, Any]:
    for name in section:
        if name not in modelled:
            raise Refused(
                f"`{name}` of {where} is not modelled; teach edge/local what CloudFront does, or take it out"
            )
    return section


def expect(value: Any, wanted: Any, what: str) -> None:
    if value != wanted:
        raise Refused(f"{what} `{json.dumps(value)}` is not modelled; `{json.dumps(wanted)}` is")


def read(template: Template) -> Distribution:
    config = known(
        template.only("AWS::CloudFront::Distribution")["DistributionConfig"], "the distribution", DISTRIBUTION
    )
    expect(template.value(config.get("Enabled")), True, "the distribution's Enabled")
    behaviour = known(config["DefaultCacheBehavior"], "the cache behaviour", BEHAVIOUR)
    origin = read_origin(template, config, behaviour)
    expect(template.value(behaviour.get("Compress", False)), False, "Compress")
    expect(behaviour.get("OriginRequestPolicyId"), ORIGIN_REQUEST_POLICY, "the origin request policy")
    expect(behaviour.get("CachedMethods", ["GET", "HEAD"]), ["GET", "HEAD"], "CachedMethods")
    made = Distribution(
        methods=[template.value(one) for one in behaviour.get("AllowedMethods", ["GET", "HEAD"])],
        errors=dict(read_error(template, one) for one in config.get("CustomErrorResponses", [])),
        read_timeout=int(template.value(origin["CustomOriginConfig"].get("OriginReadTimeout", ORIGIN_READ_TIMEOUT))),
        signed=read_signing(template, origin),
        **read_cache(template, behaviour),
    )
    if extra := set(made.methods) - {"GET", "HEAD", "OPTIONS"}:
        raise Refused(f"the method `{min(extra)}` of AllowedMethods is not modelled; GET, HEAD and OPTIONS are")
    for association in behaviour.get("FunctionAssociations", []):
        read_function(template, association, made)
    return made


def read_origin(template: Template, config: dict[str, Any], behaviour: dict[str, Any]) -> dict[str, Any]:
    if len(config["Origins"]) != 1:
        raise Refused(f"the distribution has {len(config['Origins'])} origins; only one is modelled")
    origin = known(config["Origins"][0], "the origin", ORIGIN)
    expect(behaviour["TargetOriginId"], origin["Id"], "TargetOriginId")
    expect(template.value(origin.get("ConnectionAttempts", 3)), 1, "ConnectionAttempts")
    known(origin.get("CustomOriginConfig", {}), "the origin's CustomOriginConfig", CUSTOM_ORIGIN)
    return origin


def read_signing(template: Template, origin: dict[str, Any]) -> bool:
    """Whether the origin never sees a client's `Authorization`, since origin access control overwrites it."""
    if "OriginAccessControlId" not in origin:
        return False
    access = template.resource(origin["OriginAccessControlId"], "AWS::CloudFront::OriginAccessControl")
    behaviour = access["OriginAccessControlConfig"]["SigningBehavior"]
    if behaviour == "no-override":
        raise Refused("SigningBehavior `no-override` is not modelled; `always` and `never` are")
    return bool(behaviour == "always")


def read_error(template: Template, one: dict[str, Any]) -> tuple[int, int]:
    known(one, "a custom error response", ERROR)
    return int(template.value(one["ErrorCode"])), int(template.value(one.get("ErrorCachingMinTTL", 10)))


def read_cache(template: Template, behaviour: dict[str, Any]) -> dict[str, Any]:
    policy = template.resource(behaviour["CachePolicyId"], "AWS::CloudFront::CachePolicy")
    config = known(policy["CachePolicyConfig"], "the cache policy", CACHE)
    key = known(config["ParametersInCacheKeyAndForwardedToOrigin"], "the cache key", KEY)
    for name in ("EnableAcceptEncodingBrotli", "EnableAcceptEncodingGzip"):
        expect(template.value(key.get(name, False)), False, name)
    expect(key["CookiesConfig"], {"CookieBehavior": "none"}, "CookiesConfig")
    headers, queries = key["HeadersConfig"], key["QueryStringsConfig"]
    if headers["HeaderBehavior"] not in ("none", "whitelist"):
        raise Refused(f"HeaderBehavior `{headers['HeaderBehavior']}` is not modelled; `none` and `whitelist` are")
    if queries["QueryStringBehavior"] not in ("none", "whitelist", "all"):
        raise Refused(
            f"QueryStringBehavior `{queries['QueryStringBehavior']}` is not modelled; `none`, `whitelist` and `all` are"
        )
    every = queries["QueryStringBehavior"] == "all"
    return {
        "key_queries": None if every else [template.value(one) for one in queries.get("QueryStrings", [])],
        "key_headers": [template.value(one).lower() for one in headers.get("Headers", [])],
        "min_ttl": int(template.value(config["MinTTL"])),
        "default_ttl": int(template.value(config["DefaultTTL"])),
        "max_ttl": int(template.value(config["MaxTTL"])),
    }


def read_function(template: Template, association: dict[str, Any], made: Distribution) -> None:
    event = association["EventType"]
    if event not in ("viewer-request", "viewer-response"):
        raise Refused(f"a function for `{event}` is not modelled; those for viewer-request and viewer-response are")
    function = known(
        template.resource(association["FunctionARN"], "AWS::CloudFront::Function"), f"the {event} function", FUNCTION
    )
    config = known(function["FunctionConfig"], f"the {event} function's FunctionConfig", FUNCTION_CONFIG)
    expect(config["Runtime"], "cloudfront-js-2.0", f"the {event} function's Runtime")
    expect(template.value(function.get("AutoPublish")), True, f"the {event} function's AutoPublish")
    code = template.value(function["FunctionCode"])
    # The code may have been made smaller, so it need not begin a line.
    handler = re.search(r"(?:^|[;}\s])(async\s+)?function\s+handler\(", code)
    if not handler:
        raise Refused(f"the {event} function has no `function handler(`")
    if event == "viewer-response" and handler[1]:
        raise Refused("an `async` viewer-response function is not modelled; nginx wants its headers at once")
    made.has_store = made.has_store or bool(config.get("KeyValueStoreAssociations"))
    made.functions[event] = code


# --- Writing the configuration


@dataclass
class Place:
    """Where the local CloudFront listens, what it stands in front of, and where its files are."""

    listen: str
    origin: str
    prefix: str
    folder: Path
    store: Path | None
    viewer_header: str | None


CONFIGURATION = """\
# Written by edge/local/cloudfront.py. Change that, or the template, and write it again.
{load_module}daemon off;
{user}worker_processes 1;
pid nginx.pid;
error_log error.log info;
events {{ worker_connections 4096; }}
http {{
    # Never a query: it has signatures in it.
    log_format requests '$request_method $status $sent_http_x_cache $body_bytes_sent $request_time';
    access_log access.log requests;
    client_body_temp_path temporary/body;
    proxy_temp_path temporary/proxy;
    fastcgi_temp_path temporary/fastcgi;
    uwsgi_temp_path temporary/uwsgi;
    scgi_temp_path temporary/scgi;
    server_tokens off;
    large_client_header_buffers 8 64k;
    # Whatever a client sends is in the event.
    ignore_invalid_headers off;
    underscores_in_headers on;

    js_path "{modules}";
    js_import viewer from viewer.js;
    js_var $cloudfront_target "";
    js_var $cloudfront_fields "";

    map $upstream_cache_status $cloudfront_found {{ HIT Hit; REVALIDATED RefreshHit; default Miss; }}
    map $status $cloudfront_cache {{ ~^[45] Error; default $cloudfront_found; }}
    # What is kept but too old is asked for under its own validators, all else under the client's.
    map $upstream_cache_status $cloudfront_tag {{ EXPIRED $upstream_cache_etag; default $http_if_none_match; }}
    map $upstream_cache_status $cloudfront_since {{
        EXPIRED $upstream_cache_last_modified;
        default $http_if_modified_since;
    }}

    proxy_cache_path cache levels=1 keys_zone=cloudfront:8m inactive=1d use_temp_path=off;
    upstream kept {{ server "unix:{folder}/cache.sock" max_fails=0; }}
    upstream said {{ server "unix:{folder}/origin.sock" max_fails=0; }}
    upstream origin {{ server {origin} max_fails=0; }}
    proxy_http_version 1.1;
    proxy_next_upstream off;
    proxy_pass_request_body off;
    proxy_buffer_size 16k;
    proxy_buffers 8 16k;
    proxy_pass_header Date;
    proxy_pass_header Server;

    # The viewer-request function, and what a viewer-response function that failed comes to.
    server {{
        listen {listen};
        location / {{ js_content viewer.request; }}

        location @cache {{
            proxy_buffering off;
            # As long as one request may wait for another's answer.
            proxy_read_timeout 1h;
            # All other fields are lines in this one's value.
            proxy_pass_request_headers off;
            proxy_set_header X-Amz-Cf-Id $cloudfront_fields;
            proxy_set_header Connection "";
            proxy_pass http://kept$cloudfront_target;
        }}

        location @failed {{
            default_type text/plain;
            add_header X-Cache "Error from local cloudfront" always;
            return 503 "The viewer-response function failed.\n";
        }}
    }}

    # The cache, and the viewer-response function.
    server {{
        listen "unix:{folder}/cache.sock";
        access_log off;
        location / {{
            js_header_filter viewer.respond;
            add_header X-Cache "$cloudfront_cache from local cloudfront" always;
            add_header X-Amz-Cf-Id $http_x_amz_cf_id always;

            proxy_cache cloudfront;
            proxy_cache_key $http_x_local_cloudfront_key;
            proxy_cache_methods GET HEAD;
            proxy_cache_convert_head off;
            proxy_cache_revalidate on;
            proxy_cache_lock on;
            proxy_cache_lock_age 1h;
            proxy_cache_lock_timeout 1h;
            # `lifetime` says it, in X-Accel-Expires. CloudFront heeds neither Vary nor Set-Cookie when it keeps
            # something.
            proxy_ignore_headers Cache-Control Expires Set-Cookie Vary;
            proxy_force_ranges on;
            if_modified_since before;
            # A client that reads slowly slows down an origin whose answer is not kept, instead of filling the disk.
            proxy_max_temp_file_size 0;
            proxy_read_timeout 1h;

            # nginx leaves these out where it keeps answers.
            proxy_set_header Range $http_range;
            proxy_set_header If-Range $http_if_range;
            proxy_set_header If-Match $http_if_match;
            proxy_set_header If-Unmodified-Since $http_if_unmodified_since;
            proxy_set_header If-None-Match $cloudfront_tag;
            proxy_set_header If-Modified-Since $cloudfront_since;
            proxy_set_header X-Local-Cloudfront-Key "";
            proxy_set_header X-Local-Cloudfront-State "";
            proxy_set_header X-Local-Cloudfront-Found $upstream_cache_status;
            proxy_set_header Connection "";
            proxy_pass http://said$request_uri;
        }}
    }}

    # Between cache and origin, where it is said how long an answer is kept. A body that breaks off breaks off here too.
    server {{
        listen "unix:{folder}/origin.sock";
        access_log off;
        location / {{
            js_header_filter viewer.lifetime;
            proxy_buffering off;
            proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering X-Accel-Charset;
            proxy_read_timeout {read_timeout}s;
            proxy_set_header X-Local-Cloudfront-Found "";
            proxy_set_header Host {authority};
            proxy_set_header Connection "";
            proxy_pass http://origin{prefix}$request_uri;
        }}
    }}
}}
"""


def write(made: Distribution, place: Place) -> None:
    if made.has_store and not place.store:
        raise Refused("a function has a KeyValueStore; say with --store where its entries are")
    check_folder(place.folder)
    folder = place.folder
    modules = folder / "modules"
    # What an earlier run kept or left behind is not to be found by this one.
    for name in ("cache", "modules", "temporary"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("cache.sock", "origin.sock"):
        (folder / name).unlink(missing_ok=True)
    modules.mkdir(parents=True)
    (folder / "temporary").mkdir()
    shutil.copy(HERE / "viewer.js", modules)
    # Exactly the name that functions import.
    shutil.copy(HERE / "store.js", modules / "cloudfront")
    for event in ("viewer-request", "viewer-response"):
        code = made.functions.get(event)
        text = "export default null;\n" if code is None else f"{code}\nexport default {{ handler }};\n"
        (modules / f"{event}.js").write_text(text, encoding="utf-8")
    (modules / "settings.js").write_text(
        f"export default {json.dumps(settings(made, place), indent=4)};\n", encoding="utf-8"
    )
    (folder / "nginx.conf").write_text(configuration(made, place), encoding="utf-8")


def check_folder(folder: Path) -> None:
    path = folder / "origin.sock"
    if len(str(path).encode()) > SOCKET_PATH_BYTES:
        raise Refused(f"`{path}` is too long for a socket; choose a folder with a shorter path")
    if re.search(r'["$\\\n]', str(folder)):
        raise Refused(f"`{folder}` has a character that means something to nginx; choose another folder")


def settings(made: Distribution, place: Place) -> dict[str, Any]:
    """What the njs code has to know."""
    return {
        "defaultTtl": made.default_ttl,
        "errors": made.errors,
        "keyHeaders": made.key_headers,
        "keyQueries": made.key_queries,
        "maxTtl": made.max_ttl,
        "methods": made.methods,
        "minTtl": made.min_ttl,
        "signed": made.signed,
        "store": str(place.store) if place.store and made.has_store else None,
        "viewerHeader": place.viewer_header,
    }


def configuration(made: Distribution, place: Place) -> str:
    return CONFIGURATION.format(
        load_module=load_module(),
        # Workers are another user otherwise, who cannot read a folder of root.
        user="user root;\n" if os.geteuid() == 0 else "",
        modules=place.folder / "modules",
        folder=place.folder,
        listen=place.listen,
        origin=place.origin,
        authority=place.origin,
        prefix=place.prefix,
        read_timeout=made.read_timeout,
    )


def nginx() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/local/bin")
    if not found:
        raise Refused("there is no `nginx`; install it, on Debian with `apt-get install nginx libnginx-mod-http-js`")
    return found


def load_module() -> str:
    """The line that loads njs, or none where it is built in."""
    said = subprocess.run([nginx(), "-V"], capture_output=True, text=True, check=True).stderr
    if re.search(r"--add-module=\S*njs", said):
        return ""
    named = re.search(r"--modules-path=(\S+)", said)
    for folder in ([named[1]] if named else []) + MODULE_FOLDERS:
        path = Path(folder) / "ngx_http_js_module.so"
        if path.exists():
            return f'load_module "{path}";\n'
    raise Refused("nginx has no njs module; install it, on Debian with `apt-get install libnginx-mod-http-js`")


# --- Being called


def listen_address(text: str) -> str:
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        raise Refused(f"`{text}` is no address with a port; write 127.0.0.1:8090, or port 0 for a free one") from None
    if not address.is_loopback:
        raise Refused(f"`{text}` is not on loopback; the local CloudFront is for this machine alone")
    if not port.isdecimal() or int(port) > 65535:
        raise Refused(f"`{port}` is no port; write one, or 0 for a free one")
    if int(port) == 0:
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        with socket.create_server((str(address), 0), family=family) as free:
            port = str(free.getsockname()[1])
    return f"{host}:{port}"


def origin_address(text: str) -> tuple[str, str]:
    parts = urlsplit(text)
    sound = re.fullmatch(r"[A-Za-z0-9.\[\]:-]+", parts.netloc) and re.fullmatch(r"[A-Za-z0-9._~/-]*", parts.path)
    if parts.scheme != "http" or not sound or parts.query or parts.fragment:
        raise Refused(
            f"`{text}` is no origin; write http://127.0.0.1:8080, with a path in front of all others if need be"
        )
    return parts.netloc, parts.path.rstrip("/")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Writes the configuration of a local CloudFront, and prints the address that it will have.",
        epilog="Start it with: nginx -p OUT/ -c nginx.conf -e error.log",
    )
    parser.add_argument("--origin", required=True, metavar="URL", help="what it stands in front of, over http")
    parser.add_argument("--folder", type=Path, required=True, metavar="OUT", help="where it has its files")
    parser.add_argument(
        "--store", type=Path, metavar="FOLDER", help="what store.py filled, where the functions have a store"
    )
    parser.add_argument(
        "--listen", default="127.0.0.1:0", metavar="ADDRESS:PORT", help="default: a free port of 127.0.0.1"
    )
    parser.add_argument("--template", type=Path, default=TEMPLATE, metavar="FILE", help="default: template.yaml")
    parser.add_argument(
        "--viewer-header", metavar="NAME", help="a request field that says the client's address; for tests"
    )
    return parser.parse_args()


def parsed(text: str) -> dict[str, Any]:
    try:
        # Slow, and only where SAM is.
        from samtranslator.yaml_helper import yaml_parse
    except ModuleNotFoundError:
        raise Refused("this Python has no SAM; run `aws/setup`, then call .tools/sam/bin/python") from None
    found: dict[str, Any] = yaml_parse(text)
    return found


def main() -> int:
    given = parse()
    try:
        origin, prefix = origin_address(given.origin)
        place = Place(
            listen=listen_address(given.listen),
            origin=origin,
            prefix=prefix,
            folder=given.folder.resolve(),
            store=given.store.resolve() if given.store else None,
            viewer_header=given.viewer_header.lower() if given.viewer_header else None,
        )
        text = given.template.read_text(encoding="utf-8")
        write(read(Template(parsed(text))), place)
    except (Refused, OSError) as error:
        print(f"edge/local/cloudfront.py: {error}", file=sys.stderr)
        return 1
    print(f"http://{place.listen}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
