// Links: the signature proven over the parameters as decoded. docs/link-format.md sections 1 to 4; src/gate/link.rs,
// src/gate/grant.rs.

var REQUIRED = ['url', 'kid', 'exp', 'sig'];
var SIGNED = ['disposition', 'exp', 'filename', 'id', 'ip', 'kid', 'nbf', 'url'];

async function admitLink(parameters, now, client) {
    if (!('kid' in parameters || 'exp' in parameters || 'sig' in parameters)) {
        refuse('missing_credential');
    }
    var wrong = REQUIRED.filter((name) => !(name in parameters))[0] || findMisfit(parameters);
    if (wrong) {
        misfit(wrong);
    }
    var key = await read(`k/${parameters.kid}`);
    // The same work for an unknown key, so that time does not tell which ids exist.
    var proven = verifies(key || NOBODY, stringToSign(parameters), parameters.sig);
    if (key === null || !proven || now < (key.n || 0) || ('x' in key && now >= key.x)) {
        unproven();
    }
    if (judgeUrl(parameters.url) === UNSURE) {
        return leaveToOrigin(key, parameters.sig, parameters, parameters, now, client);
    }
    checkTimesAndClient(parameters, now, client);
    if ('id' in parameters) {
        await checkId(key, parameters);
    }
    checkPolicy(key, key, parameters, parameters.nbf, now);
    return { query: parameters, claims: parameters, partition: partition(key) };
}

// Every parameter but `sig`, sorted by name, a line each.
function stringToSign(parameters) {
    var text = 'sluicegate-link-v1\n';
    for (var at = 0; at < SIGNED.length; at++) {
        if (SIGNED[at] in parameters) {
            text += `${SIGNED[at]}=${parameters[SIGNED[at]]}\n`;
        }
    }
    return text;
}
