// Links: the signature proven over the parameters as decoded. docs/link-format.md sections 1 to 4; src/gate/link.rs,
// src/gate/grant.rs.

async function admitLink(parameters, now, client) {
    if (!['kid', 'exp', 'sig'].some((name) => name in parameters)) {
        refuse('missing_credential');
    }
    var wrong = ['url', 'kid', 'exp', 'sig'].filter((name) => !(name in parameters))[0] || findMisfit(parameters);
    if (wrong) {
        misfit(wrong);
    }
    var key = await read(`k/${parameters.kid}`);
    // The same work for an unknown key, so that time does not tell which ids exist.
    var proven = verifies(key || NOBODY, stringToSign(parameters), parameters.sig);
    if (key === null || !proven || now < (key.n || 0) || now >= (key.x || Infinity)) {
        unproven();
    }
    if (judgeUrl(parameters.url) === UNSURE) {
        return leaveToOrigin(key, parameters.sig, parameters, parameters, now, client);
    }
    checkTimesAndClient(parameters, now, client);
    await checkPolicy(key, key, parameters, parameters.nbf, now);
    return { query: parameters, claims: parameters, partition: partition(key) };
}

// Every parameter but `sig`, sorted by name, a line each.
function stringToSign(parameters) {
    var names = KNOWN.filter((name) => name !== 'sig' && name in parameters).sort();
    return `sluicegate-link-v1\n${names.map((name) => `${name}=${parameters[name]}\n`).join('')}`;
}
