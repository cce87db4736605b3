// Entries of the KeyValueStore, as `sluicegate edge export` writes them (src/gate/edge.rs), and proof with them.

// A key that nobody holds.
var NOBODY = { s: 'no link is signed with this text' };

// An entry, or null if there is none. A store that does not answer is no answer: the error is a 503.
async function read(name) {
    try {
        return await store.get(name, { format: 'json' });
    } catch (fault) {
        if (await store.exists(name)) {
            throw fault;
        }
        return null;
    }
}

// Is `tag` the base64url of HMAC-SHA256 over `text`? Every byte is looked at, whatever came before.
function verifies(key, text, tag) {
    var secret = key.h ? Buffer.from(key.h, 'base64url') : key.s;
    var good = crypto.createHmac('sha256', secret).update(text).digest();
    var given = Buffer.from(tag, 'base64url');
    if (given.length !== good.length) {
        return false;
    }
    var different = 0;
    for (var at = 0; at < 32; at += 4) {
        different |= given.readInt32LE(at) ^ good.readInt32LE(at);
    }
    return different === 0;
}
