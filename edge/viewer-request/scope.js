// Which urls a token covers. docs/link-format.md, rules 5.14 to 5.18; src/gate/scope.rs.
//
// The gate compares urls as the URL Standard parses them. Here texts are compared, which is the same for plain ones: those
// that parsing leaves as they are. For the others the answer is UNSURE, and the origin decides.

var PLAIN = /^https?:\/\/[a-z0-9._-]+(?::\d+)?(\/[\w.~!$&'()*+,;=:@%/-]*)(\?[\w.~!$&()*+,;=:@%/?-]*)?$/;
var DEFAULT_PORT = /^(?:http:\/\/[^/]*:80|https:\/\/[^/]*:443)\//;
// Segments `.` and `..` in any spelling, also with parameters, and escapes that some server may read as more than a byte
// of a name: `/`, `\`, NUL, `%`, `.`, and the beginning of overlong UTF-8.
var SUSPICIOUS = /\/(?:\.|%2e){1,2}(?:[/;]|$)|%(?:2f|5c|00|25|2e|c0|c1)/i;

// `url` and `urls` are the token's claims, `asked` is the query's; one of them there is.
function judgeScope(url, urls, asked) {
    if (url !== undefined) {
        return asked === undefined ? judgeUrl(url) : sameUrl(url, asked);
    }
    if (urls === undefined) {
        return BAD;
    }
    var covers = (verdict) => (pattern) => judgePattern(pattern, asked) === verdict;
    // A pattern that cannot be read here may make the whole token void.
    if (!Array.isArray(urls) || urls.length > 64 || !urls.length || urls.some(covers(UNSURE))) {
        return UNSURE;
    }
    return urls.some(covers(GOOD)) ? judgeUrl(asked) : BAD;
}

// Rule 5.17: `*`, a url, or a url that ends in `/*`.
function judgePattern(pattern, asked) {
    if (pattern === '*') {
        return GOOD;
    }
    var parts = isText(pattern) ? /^([^*?\s]*)(\*?)$(?!\n)/.exec(pattern) : null;
    if (parts === null || !isPlain(parts[1]) || !isPlain(asked)) {
        return UNSURE;
    }
    if (parts[2] === '') {
        return sameUrl(pattern, asked);
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
