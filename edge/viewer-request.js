// The viewer-request function of the distribution (CloudFront Functions, runtime cloudfront-js-2.0).
//
// It speaks for the client towards the origin: it says the client's address, and it carries a bearer token past origin
// access control, which signs with `Authorization` and so overwrites the client's. It verifies nothing; the origin
// does, on every request, because nothing is served from the cache yet.
//
// The runtime is njs. Not there: `?.`, `??`, destructuring, spread, classes. A syntax error shows only when a request
// runs, as a 503 for everybody, so `tests/aws/test_edge.py` runs this file under njs itself. At most 10 KB.

var OURS = 'x-sluicegate-';
var TOKEN = 'x-sluicegate-token';
var CLIENT = 'x-sluicegate-client';

function handler(event) {
    var request = event.request;
    var headers = request.headers;
    var tokens = values(headers[TOKEN]);
    var moved = false;
    values(headers.authorization).forEach(function (value) {
        var token = bearer(value);
        if (token !== null) {
            tokens.push(token);
            moved = true;
        }
    });
    // Moved, not copied: an origin that is no function gets `Authorization` as it came, and would see two credentials.
    if (moved) {
        delete headers.authorization;
    }

    // Whatever a client claims about itself in our own headers is dropped, whether we set it below or not.
    Object.keys(headers).forEach(function (name) {
        if (name.toLowerCase().indexOf(OURS) === 0) {
            delete headers[name];
        }
    });

    // The origin refuses two credentials. It would see one of these two only, so the refusal has to be here.
    if (tokens.length > 1) {
        return malformed(event, 'The request carries more than one token.');
    }
    // A field that is sent empty may not arrive; a link in the query would then be served in its place.
    if (tokens.length === 1 && tokens[0] === '') {
        return malformed(event, 'The token is empty.');
    }
    if (tokens.length === 1) {
        headers[TOKEN] = { value: tokens[0] };
    }
    headers[CLIENT] = { value: event.viewer.ip };
    return request;
}

// Every value of a header; a repeated one has them in `multiValue`.
function values(field) {
    if (!field) {
        return [];
    }
    if (field.multiValue) {
        return field.multiValue.map(function (one) {
            return one.value.trim();
        });
    }
    return [field.value.trim()];
}

// The token of an `Authorization` value, or null if that is of another scheme (RFC 6750, RFC 9110 section 11.1).
function bearer(value) {
    var at = value.indexOf(' ');
    var scheme = at < 0 ? value : value.substring(0, at);
    if (scheme.toLowerCase() !== 'bearer') {
        return null;
    }
    return at < 0 ? '' : value.substring(at).trim();
}

// The origin's own refusal, word for word, so that a client meets one kind of error.
function malformed(event, detail) {
    var id = event.context.requestId;
    var problem = {
        code: 'malformed_link',
        detail: detail,
        request_id: id,
        status: 400,
        title: 'This is not a valid link',
        type: 'urn:sluicegate:problem:malformed_link'
    };
    return {
        statusCode: 400,
        statusDescription: 'Bad Request',
        headers: {
            'access-control-allow-origin': { value: '*' },
            'access-control-expose-headers': { value: 'x-request-id' },
            'cache-control': { value: 'no-store' },
            'content-security-policy': { value: "default-src 'none'; sandbox" },
            'content-type': { value: 'application/problem+json' },
            'cross-origin-resource-policy': { value: 'cross-origin' },
            'referrer-policy': { value: 'no-referrer' },
            'x-content-type-options': { value: 'nosniff' },
            'x-request-id': { value: id }
        },
        body: { encoding: 'text', data: JSON.stringify(problem) + '\n' }
    };
}
