// Refusals: thrown where something does not hold, answered in the origin's words, which the store has too
// (src/gate/refusal/code.rs).

var FIELDS = [
    'access-control-allow-origin: *',
    'access-control-expose-headers: x-request-id',
    'cache-control: no-store',
    "content-security-policy: default-src 'none'; sandbox",
    'content-type: application/problem+json',
    'cross-origin-resource-policy: cross-origin',
    'referrer-policy: no-referrer',
    'x-content-type-options: nosniff'
];
// RFC 9110 section 11.6.1: a 401 names how to authenticate.
var CHALLENGE = 'www-authenticate: Bearer realm="sluicegate"';

function refuse(code, detail) {
    throw { refused: code, detail: detail };
}

function unproven() {
    refuse('invalid_signature');
}

function malformed(detail) {
    refuse('malformed_link', detail);
}

function misfit(name) {
    malformed(`Parameter \`${name}\` is missing, given twice or malformed.`);
}

// A problem document (RFC 9457).
async function refusal(fault, id) {
    var code = fault.refused;
    var face = await read(`f/${code}`) || { s: 403 };
    var problem = {
        code: code,
        detail: fault.detail || face.d,
        request_id: id,
        status: face.s,
        title: face.t,
        type: `urn:sluicegate:problem:${code}`
    };
    var headers = { 'x-request-id': { value: id } };
    (face.s === 401 ? FIELDS.concat(CHALLENGE) : FIELDS).forEach((field) => {
        var parts = field.split(': ');
        headers[parts[0]] = { value: parts[1] };
    });
    return { statusCode: face.s, headers: headers, body: { encoding: 'text', data: `${JSON.stringify(problem)}\n` } };
}
