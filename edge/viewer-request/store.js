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

// Is `tag` the base64url of HMAC-SHA256 over `text`? Every character is looked at, whatever came before.
function verifies(key, text, tag) {
    var secret = key.h ? Buffer.from(key.h, 'base64url') : key.s;
    var good = crypto.createHmac('sha256', secret).update(text).digest('base64url');
    var different = good.length ^ tag.length;
    for (var at = 0; at < good.length; at++) {
        different |= good.charCodeAt(at) ^ tag.charCodeAt(at);
    }
    return different === 0;
}
