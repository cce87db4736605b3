// The query: decoded once and strictly, written in one encoding. docs/link-format.md section 1; src/gate/query.rs.

var MAX_QUERY = 8192;
var MAX_PIECES = 64;
// In the order in which links are written.
var KNOWN = ['url', 'kid', 'exp', 'nbf', 'filename', 'disposition', 'id', 'ip', 'sig', 'token'];
var CONTROL = /[\x00-\x1f\x7f-\x9f]/;

// The known parameters. Others are not even decoded.
function readQuery(raw) {
    var pieces = raw.split('&').filter((piece) => piece !== '');
    if (raw.length > MAX_QUERY || pieces.length > MAX_PIECES || !/^[\x21-\x7e]*$/.test(raw)) {
        malformedQuery();
    }
    var parameters = {};
    pieces.forEach((piece) => {
        var parts = /^([^=]*)=?(.*)$/.exec(piece);
        var name = decode(parts[1]);
        if (KNOWN.indexOf(name) >= 0) {
            var value = decode(parts[2]);
            if (value === null || CONTROL.test(value) || name in parameters) {
                misfit(name);
            }
            parameters[name] = value;
        }
    });
    return parameters;
}

// `+` is a space and `%XX` a byte; null for a stray `%` and for what is not UTF-8.
function decode(text) {
    try {
        return decodeURIComponent(text.replace(/\+/g, ' '));
    } catch (fault) {
        return null;
    }
}

// One encoding for every value, so that one url has one key in the cache.
function writeQuery(parameters) {
    var query = KNOWN.filter((name) => name in parameters).map((name) => `${name}=${encode(parameters[name])}`).join('&');
    return query.length > MAX_QUERY ? malformedQuery() : query;
}

// All but the unreserved characters of RFC 3986.
function encode(text) {
    return encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}

function malformedQuery() {
    malformed('The query is too long or not percent-encoded.');
}
