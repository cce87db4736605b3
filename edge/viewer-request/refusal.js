// Refusals: thrown where something does not hold, answered in the origin's words, which the store has too
// (src/gate/refusal/code.rs).

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
    var face = await read(`f/${code}`) || { s: 403, h: { 'cache-control': 'no-store' } };
    var headers = { 'x-request-id': { value: id } };
    for (var name in face.h) {
        headers[name] = { value: face.h[name] };
    }
    var problem = {
        code: code,
        detail: fault.detail || face.d,
        request_id: id,
        status: face.s,
        title: face.t,
        type: `urn:sluicegate:problem:${code}`
    };
    return { statusCode: face.s, headers: headers, body: { encoding: 'text', data: `${JSON.stringify(problem)}\n` } };
}
