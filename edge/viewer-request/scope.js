// Which urls a token covers. docs/link-format.md, rules 5.14 to 5.18; src/gate/scope.rs.
//
// The gate compares urls as the URL Standard parses them. Here texts are compared, which is the same for plain ones: those
// that parsing leaves as they are. For the others the answer is UNSURE, and the origin decides.

var PLAIN = /^https?:\/\/[a-z0-9._-]+(?::\d+)?(\/[\w.~!$&'()*+,;=:@%/-]*)(\?[\w.~!$&()*+,;=:@%/?-]*)?$/;
var DEFAULT_PORT = /^(?:http:\/\/[^/]*:80|https:\/\/[^/]*:443)\//;
// Segments `.` and `..` in any spelling, also with parameters; escapes that some server may read as more than a byte of a
// name: `/`, `\`, NUL, `%`, `.`, `;`, and the beginning of overlong UTF-8; and a `%` that is none, with which escapes nest.
var SUSPICIOUS = /\/(?:\.|%2e){1,2}(?:[/;]|$)|%(?:2f|5c|00|25|2e|3b|c0|c1|(?![0-9a-f]{2}))/i;
// More than this cost more than they are worth; the origin reads up to 64.
var MAX_PATTERNS = 8;

// `url` and `urls` are the token's claims, `asked` is the query's; one of them there is.
function judgeScope(url, urls, asked) {
    if (url !== undefined) {
        return asked === undefined ? judgeUrl(url) : sameUrl(url, asked);
    }
    if (urls === undefined) {
        return BAD;
    }
    if (!Array.isArray(urls) || urls.length > MAX_PATTERNS || !urls.length) {
        return UNSURE;
    }
    var verdict = BAD;
    var plain = isPlain(asked);
    for (var at = 0; at < urls.length; at++) {
        var covers = judgePattern(urls[at], asked, plain);
        // A pattern that cannot be read here may make the whole token void.
        if (covers === UNSURE) {
            return UNSURE;
        }
        verdict = covers === GOOD ? judgeUrl(asked) : verdict;
    }
    return verdict;
}

// Rule 5.17: `*`, a url, or a url that ends in `/*`.
function judgePattern(pattern, asked, plain) {
    if (pattern === '*') {
        return GOOD;
    }
    var parts = isText(pattern) ? /^([^*?\s]*)(\*?)$(?!\n)/.exec(pattern) : null;
    if (parts === null || !plain || !isPlain(parts[1])) {
        return UNSURE;
    }
    if (parts[2] === '') {
        return pattern === asked ? GOOD : BAD;
    }
    var escaped = /%/.test(parts[1] + asked.split('?')[0]);
    if (!parts[1].endsWith('/') || (escaped && !asked.startsWith(parts[1]))) {
        return UNSURE;
    }
    return asked.startsWith(parts[1]) ? GOOD : BAD;
}

function sameUrl(one, other) {
    if (one === other) {
        return judgeUrl(one);
    }
    return isPlain(one) && isPlain(other) ? BAD : UNSURE;
}

function isPlain(url) {
    var parts = PLAIN.exec(url);
    return parts !== null && judgeUrl(url) === GOOD && !DEFAULT_PORT.test(url) && !SUSPICIOUS.test(parts[1]);
}
