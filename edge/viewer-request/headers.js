// Headers: where a token is taken from, and what a client may not claim.

var OURS = 'x-sluicegate-';

// Every token that the headers carry. It is moved, not copied: an origin that is no function would see it twice.
function takeTokens(headers) {
    var tokens = values(headers[`${OURS}token`]);
    values(headers.authorization).forEach((value) => {
        var parts = /^bearer(?: (.*))?$/i.exec(value);
        if (parts !== null) {
            tokens.push(trim(parts[1] || ''));
            // Origin access control signs with `Authorization`, so the client's would not arrive.
            delete headers.authorization;
        }
    });
    return tokens;
}

// Whatever a client claims in our own headers is dropped, whether we set it or not. Names come in lower case.
function dropOurs(headers) {
    for (var name in headers) {
        if (name.startsWith(OURS)) {
            delete headers[name];
        }
    }
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

// Blanks at both ends, in time that grows with the text and not with its square: `[ \t]+$` would be tried at every blank.
function trim(text) {
    return /^[ \t]*([\s\S]*[^ \t]|)/.exec(text)[1];
}
