// The values of links and tokens, each by its rule. docs/link-format.md section 2; src/gate/id.rs, src/gate/filename.rs.

var NOT_IN_NAMES = /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069/\\]/;

// By name. A link has no `iat`, only a token has.
var RULES = {
    url: (text) => judgeUrl(text) !== BAD,
    kid: (text) => /^[a-z0-9][a-z0-9._-]{0,63}$/.test(text),
    exp: isTime,
    nbf: isTime,
    filename: isFileName,
    disposition: (text) => text === 'attachment' || text === 'inline',
    id: (text) => /^[A-Za-z0-9._-]{1,64}$/.test(text),
    ip: (text) => readRange(text) !== null,
    // 256 bits: the last character carries two bits that must be zero, so that a tag has one spelling.
    sig: (text) => /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/.test(text),
    token: isText,
    iat: isTime
};

function isFileName(text) {
    return text.length < 256 && /^\w[\w .-]*$/.test(text)
        || text !== '' && bytes(text) < 256 && !NOT_IN_NAMES.test(text) && text !== '.' && text !== '..';
}

// The name of a value that breaks its rule, if there is one.
function findMisfit(given) {
    for (var name in given) {
        if (!RULES[name](given[name])) {
            return name;
        }
    }
}

function isTime(text) {
    return /^(?:0|[1-9][0-9]{0,11})$/.test(text);
}

function bytes(text) {
    return Buffer.from(text).length;
}
