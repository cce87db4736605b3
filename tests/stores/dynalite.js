// DynamoDB for tests that race: dynalite, in memory, on a free port of the loopback. dynalite's own command line takes
// port 0 for its default port, and stays when its test is killed; this one prints where it listens, on one line, and
// ends with its standard input.
//
//   node dynalite.js MODULES [PORT]      MODULES is the node_modules that `tests/stores/setup` made

'use strict';

const { createServer } = require('node:http');
const { join } = require('node:path');

const modules = process.argv[2];
if (!modules) {
    console.error('usage: node dynalite.js MODULES [PORT]');
    process.exit(2);
}
// Tables are there at once.
const dynalite = require(join(modules, 'dynalite'))({ createTableMs: 0, deleteTableMs: 0, updateTableMs: 0 });
// How often which operation was asked for; GET /counts says it.
const counts = {};
const server = createServer((request, response) => {
    if (request.method === 'GET' && request.url === '/counts') {
        response.end(JSON.stringify(counts));
        return;
    }
    const operation = String(request.headers['x-amz-target']).split('.').pop();
    counts[operation] = (counts[operation] || 0) + 1;
    dynalite.emit('request', request, response);
});
server.listen(Number(process.argv[3] || 0), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
process.stdin.on('end', () => process.exit(0)).resume();
