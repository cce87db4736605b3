// The query: decoded once and strictly, written in one encoding. docs/link-format.md section 1; src/gate/query.rs.

var MAX_QUERY = 8192;
var MAX_PIECES = 64;
var CONTROL = /[\x00-\x1f\x7f-\x9f]/;

// The known parameters. Others are not even decoded. What costs nothing is asked first: a function call is half a microsecond.
function readQuery(raw) {
    // One look for both: what no query holds, and escapes that may decode to a control character.
    var suspicious = /[^!-~]|%[017cC]/.test(raw);
    if (raw.length > MAX_QUERY || (suspicious && /[^!-~]/.test(raw))) {
        malformedQuery();
    }
    var text = raw.indexOf('+') < 0 ? raw : raw.split('+').join('%20');
    var pieces = text.split('&');
    var count = 0;
    var parameters = {};
    for (var at = 0; at < pieces.length; at++) {
        var piece = pieces[at];
        if (piece === '') {
            continue;
        }
        if (++count > MAX_PIECES) {
            malformedQuery();
        }
        var equals = piece.indexOf('=');
        var name = equals < 0 ? piece : piece.substring(0, equals);
        if (name.indexOf('%') >= 0) {
            name = decode(name);
        }
        if (RULES.hasOwnProperty(name) && name !== 'iat') {
            var value = equals < 0 ? '' : piece.substring(equals + 1);
            if (value.indexOf('%') >= 0) {
                value = decode(value);
            }
            if (value === null || name in parameters || (suspicious && CONTROL.test(value))) {
                misfit(name);
            }
            parameters[name] = value;
        }
    }
    return parameters;
}

// `%XX` is a byte; null for a stray `%` and for what is not UTF-8.
function decode(text) {
    try {
        return decodeURIComponent(text);
    } catch (fault) {
        return null;
    }
}

// One encoding for every value, so that one url has one key in the cache: all but the unreserved characters of RFC 3986.
function writeQuery(parameters) {
    var query = '';
    for (var name in parameters) {
        query += `&${name}=${encodeURIComponent(parameters[name])}`;
    }
    query = query.substring(1);
    // What encodeURIComponent leaves although it is reserved.
    if (/[!'()*]/.test(query)) {
        query = query.replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
    }
    return query.length > MAX_QUERY ? malformedQuery() : query;
}

function malformedQuery() {
    malformed('The query is too long or not percent-encoded.');
}
