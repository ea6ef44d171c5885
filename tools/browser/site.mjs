// The built site: where it lies, its pages, a server for it, and the browser that opens it.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { delimiter, extname, join, normalize, resolve } from 'node:path';
import { brotliCompressSync } from 'node:zlib';

/** The root of the repository. */
export const repository = resolve(import.meta.dirname, '../..');

/** The folder of the site: the variable SITE, or where `mdbook build` writes. */
export const site = resolve(process.env.SITE ?? join(repository, 'book/html'));
if (!existsSync(join(site, 'index.html'))) missing(`no site in ${site}`, 'run `mdbook build`, or say where it lies: SITE=folder');

export function missing(what, fix) {
  console.error(`${what}: ${fix}`);
  process.exit(1);
}

/** The path of the browser. CHROME_PATH is also what Lighthouse reads. */
export function chromium() {
  const names = ['chromium', 'google-chrome', 'chromium-browser'];
  const folders = process.env.PATH.split(delimiter);
  return process.env.CHROME_PATH
    ?? names.flatMap((name) => folders.map((folder) => join(folder, name))).find(existsSync)
    ?? missing('no Chromium', '`apt-get install chromium`, or say where it lies: CHROME_PATH=file');
}

/** Builds the book for an address such as `/some/where/` into a folder of the repository. */
export function build(folder, address) {
  const { status } = spawnSync('mdbook', ['build', '--dest-dir', folder], {
    cwd: repository,
    env: { ...process.env, MDBOOK_LOG: 'warn', MDBOOK_OUTPUT__HTML__SITE_URL: address },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (status !== 0) throw new Error('`mdbook build` fails, see above; is mdBook installed?');
  return join(repository, folder, 'html');
}

/** The pages of the book with their code blocks, as tools/book reads them. */
const blocks = new Map();
const read = spawnSync('cargo', ['run', '--quiet', '--locked', '--package', 'book', '--example', 'blocks'], {
  cwd: repository,
  encoding: 'utf8',
  maxBuffer: 2 ** 30,
  stdio: ['ignore', 'pipe', 'inherit'],
});
if (read.status !== 0) missing('the book cannot be read', 'see above');
for (const page of JSON.parse(read.stdout)) {
  blocks.set(page.path.replace(/^src\/(.*)\.md$/, '$1.html'), page.blocks.map(({ fence, shown, whole }) => ({
    fence,
    shown: shown.trimEnd(),
    whole: whole.trimEnd(),
    hidden: shown !== whole,
    commands: fence.startsWith('console') ? shown.match(/^\$ .*/gm)?.map((line) => line.slice(2)).join('\n') ?? '' : '',
  })));
}

/** The first page of the book: mdBook writes it as index.html, and once more under its own name. */
const [first] = blocks.keys();

/** The name that a page has once. */
export function once(page) {
  return page === '' || page === first ? 'index.html' : page;
}

/** The code blocks of a page: what a reader is to see and to copy. None if the page is not one of the book. */
export function blocksOf(page) {
  return blocks.get(once(page) === 'index.html' ? first : page) ?? [];
}

/** The pages of a site, the front page first: its HTML files without those that send a reader elsewhere. */
export function files(folder = site) {
  const apart = ['404.html', 'print.html'];
  const leads = (path) => /<meta[^>]+http-equiv=["']?refresh/i.test(readFileSync(join(folder, path), 'utf8'));
  return readdirSync(folder, { recursive: true })
    .filter((path) => path.endsWith('.html') && !apart.includes(path) && !leads(path))
    .sort((a, b) => (b === 'index.html') - (a === 'index.html') || (a < b ? -1 : 1));
}

const types = { '.css': 'text/css', '.html': 'text/html', '.js': 'text/javascript', '.svg': 'image/svg+xml', '.txt': 'text/plain', '.xml': 'application/xml' };

/**
 * Serves a folder under a path, as a static host does: compressed by brotli, `404.html` for what is
 * not there. Ends with the process.
 */
export async function serve(folder, base = '/') {
  const compressed = new Map();
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    const inside = path.startsWith(base) ? join(folder, normalize(`/${path.slice(base.length)}`)) : null;
    const found = inside && [inside, `${inside}.html`, join(inside, 'index.html')].find((file) => extname(file) && existsSync(file));
    // A host of many sites does not answer for what lies beside this one.
    const file = found || (inside && join(folder, '404.html'));
    if (!file || !existsSync(file)) {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('outside of the site');
      return;
    }
    const type = types[extname(file)] ?? 'application/octet-stream';
    if (!compressed.has(file)) compressed.set(file, brotliCompressSync(readFileSync(file)));
    const body = compressed.get(file);
    const headers = { 'content-type': `${type}; charset=utf-8`, 'content-encoding': 'br', 'content-length': body.length };
    response.writeHead(found ? 200 : 404, headers).end(body);
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  server.unref();
  return { address: `http://127.0.0.1:${server.address().port}${base}`, close: () => server.close() };
}
