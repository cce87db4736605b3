// Headers: where a token is taken from, and what a client may not claim.

var OURS = 'x-sluicegate-';

// Every token that the headers carry. It is moved, not copied: an origin that is no function would see it twice.
function takeTokens(headers) {
    var tokens = values(headers[`${OURS}token`]);
    var moved = false;
    values(headers.authorization).forEach((value) => {
        var token = bearer(value);
        if (token !== null) {
            tokens.push(token);
            moved = true;
        }
    });
    // Origin access control signs with `Authorization`, so the client's would not arrive.
    if (moved) {
        delete headers.authorization;
    }
    return tokens;
}

// Whatever a client claims in our own headers is dropped, whether we set it or not.
function dropOurs(headers) {
    Object.keys(headers).forEach((name) => {
        if (name.toLowerCase().startsWith(OURS)) {
            delete headers[name];
        }
    });
}

function say(headers, name, value) {
    headers[OURS + name] = { value: value };
}

// Every value of a header; a repeated one has them in `multiValue`.
function values(field) {
    if (!field) {
        return [];
    }
    return (field.multiValue || [field]).map((one) => trim(one.value));
}

// The token of an `Authorization` value, or null if that is of another scheme (RFC 6750, RFC 9110 section 11.1).
function bearer(value) {
    var at = value.indexOf(' ');
    var scheme = at < 0 ? value : value.substring(0, at);
    if (scheme.toLowerCase() !== 'bearer') {
        return null;
    }
    return at < 0 ? '' : trim(value.substring(at));
}

function trim(text) {
    return text.replace(/^[ \t]+|[ \t]+$/g, "");
}
