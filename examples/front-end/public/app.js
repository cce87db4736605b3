// Downloads with progress in the page. Without this script every file can still be downloaded by its link.

import { DownloadError, download } from './download.js';

for (const item of document.querySelectorAll('[data-file]')) {
  const button = item.querySelector('[data-action=progress]');
  const idle = button.textContent;
  let running;
  button.hidden = false;
  button.addEventListener('click', async () => {
    if (running) {
      running.abort();
      return;
    }
    running = new AbortController();
    button.textContent = 'Cancel';
    await fetchFile(item, running.signal);
    button.textContent = idle;
    running = undefined;
  });
}

/** Asks the back end for a link, downloads it, and hands the whole file to the browser. */
async function fetchFile(item, signal) {
  const bar = item.querySelector('progress');
  const status = item.querySelector('[role=status]');
  item.querySelector('.progress').hidden = false;
  item.classList.remove('failed');
  bar.value = 0;
  status.textContent = 'Asking for a link';
  try {
    const link = await askForLink(item.dataset.file, signal);
    const file = await download(link, { signal, onProgress: showing(bar, status) });
    save(await file.blob(), file.filename);
    status.textContent = 'Done. The file is whole.';
  } catch (error) {
    item.classList.add('failed');
    status.textContent = signal.aborted ? 'Cancelled.' : `${explain(error)}.`;
  }
}

async function askForLink(id, signal) {
  const answer = await fetch(`/files/${id}/link`, { method: 'POST', signal });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error.replace(/\.$/, ''));
  return said.link;
}

/** Shows progress, the text once in a whole percent, so that it can be listened to. */
function showing(bar, status) {
  let shown;
  return ({ received, total }) => {
    const percent = total ? Math.floor((received / total) * 100) : undefined;
    if (percent === shown && shown !== undefined) return;
    shown = percent;
    if (percent === undefined) bar.removeAttribute('value');
    else bar.value = received / total;
    status.textContent = percent === undefined ? `${received} bytes` : `${percent} %`;
  };
}

function save(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = document.createElement('a');
  link.href = address;
  link.download = name ?? 'download';
  link.click();
  // The browser reads the blob after the click; it needs the address until then.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

function explain(error) {
  if (error instanceof DownloadError && error.retryAfter) return `Refused for now; try again in ${error.retryAfter} seconds`;
  if (error instanceof DownloadError && error.code === 'unreachable') return 'The gateway cannot be reached; is it running?';
  const text = error.message;
  return text.charAt(0).toUpperCase() + text.slice(1);
}
