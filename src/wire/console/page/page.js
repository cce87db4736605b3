// Starts the page: takes the key, asks what there is, hands over to the three parts.

import { call, takeKey } from './server.js';
import { startBuild } from './build.js';
import { startInspect } from './inspect.js';
import { startLive } from './live.js';

const state = document.getElementById('state');

async function start() {
  if (!takeKey()) {
    state.className = 'notice';
    state.textContent = 'Open the address that the server printed when it started: it carries the key of this page, which is missing here.';
    return;
  }
  let there;
  try {
    there = await call('keys');
  } catch (complaint) {
    state.className = 'notice';
    state.textContent = complaint.message;
    return;
  }
  const tenants = new Set(there.keys.map((key) => key.tenant)).size;
  const count = (number, noun) => `${number} ${noun}${number === 1 ? '' : 's'}`;
  state.textContent = `version ${there.version}, ${count(tenants, 'tenant')}, ${count(there.keys.length + there.left_out, 'key')} that can sign`;
  document.getElementById('main').hidden = false;
  const inspect = startInspect();
  startBuild(there, inspect);
  startLive();
}

// The address of a server that was started again, in an old tab: only the fragment is new, so that nothing is loaded.
addEventListener('hashchange', () => {
  if (!location.hash.startsWith('#key=')) return;
  takeKey();
  location.reload();
});

start();
