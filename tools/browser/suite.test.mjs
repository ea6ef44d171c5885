// What readers do with the built site, done in a real browser.
//
//     npm test --prefix tools/browser
//     npm test --prefix tools/browser -- --test-name-pattern=search
//
// SITE=folder tests a site that lies elsewhere than where `mdbook build` writes.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import axe from 'axe-core';
import { chromium as engine } from 'playwright-core';
import * as inpage from './inpage.mjs';
import { blocksOf, build, chromium, files, once, repository, serve, site } from './site.mjs';

const pages = files();
/** A page with a program that is shown in part. */
const code = pages.find((page) => blocksOf(page).some((block) => block.hidden));
const screens = [360, 1280].flatMap((width) => ['light', 'dark'].map((theme) => ({ width, theme })));
const server = await serve(site);
const browser = await engine.launch({ executablePath: chromium() });

after(async () => {
  await browser.close();
  server.close();
});

/** A test that looks at everything before it says all that is wrong. */
function check(name, look) {
  test(name, async () => {
    const defects = new Defects();
    await look(defects);
    defects.none();
  });
}

/** What is wrong, listed by what it is: one fix often helps many pages. */
class Defects {
  #list = new Map();

  add({ page, width, theme, state = '' }, what, fix, detail = '') {
    const alike = this.#list.get(what) ?? { fix, places: new Map() };
    const place = [page, width && `${width} px`, theme, state, detail].filter(Boolean);
    alike.places.set(`${place}`, place);
    this.#list.set(what, alike);
  }

  /** Prints the list and fails, if there is anything on it. */
  none() {
    if (this.#list.size === 0) return;
    for (const [what, { fix, places }] of this.#list) {
      const rows = [...places.values()].sort();
      if (rows.length > 10) rows.splice(10, rows.length, [`and ${rows.length - 10} more`]);
      console.log(`\n${what}\n  fix: ${fix}`);
      for (const row of rows) console.log(`  ${row.join('  ')}`);
    }
    const error = new Error(`${this.#list.size === 1 ? 'a defect' : `${this.#list.size} defects`}, listed above`);
    error.stack = error.message;
    throw error;
  }
}

/** Opens one page after another, some at once, and works on each. What breaks meanwhile is a defect. */
async function visitAll(defects, places, work, { atOnce = 4, ...options } = {}) {
  const queue = [...places];
  await Promise.all(Array.from({ length: Math.min(atOnce, queue.length) }, async () => {
    const context = await browser.newContext({ reducedMotion: 'reduce', ...options });
    context.setDefaultTimeout(5000);
    context.setDefaultNavigationTimeout(30_000);
    await context.addInitScript(inpage.helpers);
    const page = await context.newPage();
    while (queue.length) await read(page, defects, queue.shift(), work);
    await context.close();
  }));
}

function visit(defects, place, work, options) {
  return visitAll(defects, [place], work, options);
}

async function read(page, defects, where, work) {
  const place = { width: 1280, theme: 'light', address: server.address, status: 200, ...where };
  const report = (what, fix, detail) => defects.add(place, what, fix, detail);
  try {
    await page.setViewportSize({ width: place.width, height: 900 });
    await page.emulateMedia({ media: null, colorScheme: place.theme });
    watch(page, place, report);
    await page.goto(place.address + place.page);
    await work(page, report, place);
  } catch (error) {
    const [what, ...log] = error.message.replace(/\u001b\[\d+m/g, '').split('\n');
    const step = log.find((line) => line.includes('waiting for'))?.trim() ?? '';
    report(`${what} ${step}`.trim(), 'readers cannot do this: fix the theme; or the test, if they do it otherwise now');
  }
  page.removeAllListeners();
  // The next reader has never been here.
  await page.evaluate(() => localStorage.clear()).catch(() => {});
}

/** Reports errors, and what the page asks of others. */
function watch(page, { address, status }, report) {
  const missing = (request, why) => report('it asks for what is not there', 'correct the address, or add the file', `${request.url().replace(address, '')}: ${why}`);
  page.on('pageerror', (error) => report('a script fails', 'correct the script', error.message));
  page.on('console', (message) => {
    // What does not load is reported below.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) report('the console shows an error', 'correct what it names', message.text());
  });
  page.on('request', (request) => {
    if (!/^(data|blob):/.test(request.url()) && new URL(request.url()).origin !== new URL(address).origin) report('it asks a third party', 'serve the file with the site, or do without it', request.url());
  });
  page.on('requestfailed', (request) => {
    // A page that is left stops loading.
    if (request.failure().errorText !== 'net::ERR_ABORTED') missing(request, request.failure().errorText);
  });
  page.on('response', (response) => {
    const expected = response.request().isNavigationRequest() ? status : 200;
    if (response.status() >= 400 && response.status() !== expected) missing(response.request(), response.status());
  });
}

async function unfold(page) {
  await page.evaluate(() => document.querySelectorAll('main details').forEach((details) => { details.open = true; }));
}

function shownCode(page) {
  return page.locator('main pre > code').evaluateAll((all) => all.map((code) => code.innerText));
}

/** Reports the first block that does not show what its source shows. */
async function compareShown(page, path, report) {
  const shown = await shownCode(page);
  const sources = blocksOf(path);
  if (shown.length !== sources.length) {
    report('it has not as many code blocks as its source', 'render each block of the source as <pre><code>', `${shown.length} for ${sources.length}`);
  }
  sources.forEach((source, index) => {
    if (index < shown.length) same(shown[index], source.shown, 'a code block shows what its source does not', 'show the lines of the source, and hide those that begin with `# `', report, /^\s*\n|\n\s*(?=\n)/g);
  });
}

/** Reports where two texts differ, if they do. What `but` matches is no difference. */
function same(is, wanted, what, fix, report, but = '') {
  const [left, right] = [is, wanted].map((text) => text.replaceAll(but, '').trimEnd().split('\n'));
  const line = [...left, ...right].findIndex((_, line) => left[line] !== right[line]);
  if (line < 0) return;
  const text = (some) => (some === undefined ? 'nothing' : `\`${some.slice(0, 60)}\``);
  report(what, fix, `${text(left[line])} instead of ${text(right[line])}, in the block that begins with ${text(right[0])}`);
}

async function openSearch(page) {
  await page.getByRole('button', { name: 'Search', exact: true }).first().click();
  await page.locator('input[type=search]').waitFor();
}

/** The page that a result of the search leads to, and the place in it. */
function target(href, address = server.address) {
  const [path, hash] = decodeURI(href).replace(decodeURI(address), '').split('#');
  return { page: once(path), hash };
}

function menu(page) {
  return page.getByRole('button', { name: 'Menu' });
}

test('every page, at 360 and 1280 px, light and dark', async (t) => {
  const kinds = {};
  const kind = (name) => (kinds[name] = new Defects());
  const loading = kind('loads without an error, and asks no third party');
  const scrolling = kind('does not scroll sideways, and nothing is cut off');
  const access = kind('axe finds nothing');
  const order = kind('has its landmarks in order');
  const lines = kind('has lines of 66 to 75 characters');
  const columns = kind('has code boxes of 86 columns');
  const colours = kind('has code colours of at least 5.6:1');
  const holes = kind('shows no holes where lines of code are hidden');
  const boxes = kind('no button lies on code, and boxes that scroll are in reach of a keyboard');

  await visitAll(loading, [...pages, '404.html'].flatMap((page) => [{ page, width: 360, theme: 'light' }, { page, width: 1280, theme: 'dark' }]), async (page, _, first) => {
    const { page: path, width } = first;
    for (const theme of [first.theme, first.theme === 'light' ? 'dark' : 'light']) {
      const where = { page: path, width, theme };
      await page.emulateMedia({ colorScheme: theme });
      await findings(page, access, where, theme === first.theme ? undefined : onlyColours);
    }
    const wide = await page.evaluate(inpage.sidewaysScroll, width);
    if (wide) scrolling.add(first, 'it is wider than the screen', 'let it wrap, or scroll in a box of its own (overflow-x: auto)', wide);
    await unfold(page);
    for (const covered of await page.evaluate(inpage.coveredCode)) boxes.add(first, 'a button lies on code', 'give the buttons a place of their own', covered);
    for (const box of await page.evaluate(inpage.unreachableCode)) {
      boxes.add(first, 'a box scrolls, but Tab does not reach it or it has no name', 'tabindex="0" and an aria-label', box);
    }
    if (width === 1280) {
      await landmarks(page, (...defect) => order.add(first, ...defect));
      await measures(page, first, lines, columns);
      const shown = await shownCode(page);
      blocksOf(path).forEach(({ hidden }, index) => {
        if (hidden && /^[ \t]*\n|\n[ \t]*\n[ \t]*\n|\n[ \t]*\n$/.test(shown[index] ?? '')) {
          holes.add(first, 'blank lines stand where lines are hidden', 'hide the blank lines with the lines around them', `\`${shown[index].trim().split('\n')[0]}\``);
        }
      });
    }
    await codeColours(page, first, colours);
  });
  for (const [name, defects] of Object.entries(kinds)) await t.test(name, () => defects.none());
});

/** The rules of axe whose findings may differ between the themes. */
const onlyColours = ['color-contrast', 'link-in-text-block'];

async function findings(page, defects, where, rules) {
  if (!await page.evaluate(() => 'axe' in window)) await page.evaluate(axe.source);
  const violations = await page.evaluate(async (runOnly) => {
    const { violations } = await window.axe.run(document, {
      resultTypes: ['violations'],
      // target-size is off by default, but Lighthouse counts it.
      ...(runOnly ? { runOnly } : { rules: { 'target-size': { enabled: true } } }),
    });
    return violations.map(({ id, help, nodes }) => ({ id, help, count: nodes.length, html: nodes[0].html, why: nodes[0].failureSummary }));
  }, rules);
  for (const { id, help, count, html, why } of violations) {
    defects.add(where, `${id}: ${help}`, why.replace(/\s+/g, ' '), `${html.replace(/\s+/g, ' ').slice(0, 100)} (${count} in all)`);
  }
}

async function landmarks(page, report) {
  const outline = await page.locator('body').ariaSnapshot();
  const order = [...outline.matchAll(/^ *- (banner|main|contentinfo|navigation "Pages")/gm)].map(([, landmark]) => landmark);
  const wanted = ['banner', 'main', 'navigation "Pages"', 'contentinfo'];
  const right = order.length === 4 && wanted.every((landmark) => order.includes(landmark)) && order[0] === 'banner' && order[3] === 'contentinfo';
  if (!right) report(`its landmarks are ${order.join(', ') || 'none'}`, 'a <header>, a <main>, a <nav aria-label="Pages"> and a <footer>, each once; the header first, the footer last');
  const above = await page.evaluate(() => document.querySelector('header')?.getBoundingClientRect().top ?? 0);
  if (above > 1) report('there is empty space above the header', 'take what stands before it out of the flow', `${Math.round(above)} px`);
}

/** Reports the colours that are too pale, in both themes, and in whole programs too. */
async function codeColours(page, { page: path, width }, defects) {
  for (const button of await page.getByRole('button', { name: 'Show whole program' }).all()) await button.dispatchEvent('click');
  for (const theme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: theme });
    for (const { colour, contrast, text, className } of await page.evaluate(inpage.codeColours)) {
      if (contrast < 5.6) defects.add({ page: path, width, theme }, `${colour}, the colour of "${className}", has a contrast of ${contrast.toFixed(2)}`, `take a ${theme === 'dark' ? 'lighter' : 'darker'} one`, `\`${text}\``);
    }
  }
}

async function measures(page, where, lines, columns) {
  const lengths = (await page.evaluate(inpage.lineLengths)).sort((a, b) => a - b);
  const median = lengths[Math.floor(lengths.length / 2)];
  // A few lines say nothing about the width of the text.
  if (lengths.length >= 8 && (median < 66 || median > 75)) lines.add(where, 'the median of its lines is too long or too short', 'change the width of the text, or its size', `${median} characters in ${lengths.length} lines`);
  const held = await page.evaluate(inpage.codeColumns);
  if (held !== null && held < 86) columns.add(where, 'its narrowest code box is too narrow', 'make the box wider, or its text smaller', `${held} columns`);
}

check('axe finds nothing while the search, the menu or a whole program is open', (defects) => {
  const states = [
    { width: 360, state: 'the menu is open', open: (page) => menu(page).click() },
    ...[360, 1280].flatMap((width) => [
      { width, state: 'the search is open', open: (page) => openSearch(page).then(() => page.evaluate(inpage.searchFor, ['connection'])) },
      { width, state: 'a whole program is shown', open: (page) => page.getByRole('button', { name: 'Show whole program' }).first().click() },
    ]),
  ];
  return visitAll(defects, states.map((state) => ({ page: code, ...state })), async (page, _, { width, state, open }) => {
    await open(page);
    const wide = await page.evaluate(inpage.sidewaysScroll, width);
    if (wide) defects.add({ page: code, width, state }, 'it is wider than the screen', 'let it wrap, or scroll in a box of its own (overflow-x: auto)', wide);
    for (const theme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme: theme });
      await findings(page, defects, { page: code, width, theme, state }, theme === 'light' ? undefined : onlyColours);
    }
  });
});

check('the theme follows the system until the reader chooses, and never flashes', (defects) => visitAll(defects, screens.map((screen) => ({ page: 'index.html', ...screen })), async (page, report, { theme }) => {
  const other = theme === 'light' ? 'dark' : 'light';
  const is = async (expected, when) => {
    const bright = await page.evaluate(inpage.brightness);
    if (expected === 'light' ? bright < 0.75 : bright > 0.25) report(`the page is not ${expected} ${when}`, 'correct the colours, or the script of the theme');
  };
  const chosen = () => page.evaluate(() => document.documentElement.dataset.theme ?? null);
  await is(theme, 'while the system is');
  if (await chosen()) report('data-theme is set though the reader has not chosen', 'leave it to prefers-color-scheme');
  await page.emulateMedia({ colorScheme: other });
  await is(other, 'after the system has become so');
  await page.emulateMedia({ colorScheme: theme });

  await page.locator('#theme-toggle').click();
  await is(other, 'after the button');
  if (await chosen() !== other) report('after the button, data-theme is not what the reader has chosen', 'set it on <html>', `${await chosen()} instead of ${other}`);
  // Observers run as soon as the first piece of the page is parsed: before what is deferred, and before anything is painted.
  await page.addInitScript(() => {
    new MutationObserver((_, observer) => {
      if (!document.body) return;
      window.themeAtStart = document.documentElement.dataset.theme ?? null;
      observer.disconnect();
    }).observe(document, { childList: true, subtree: true });
  });
  for (const next of ['index.html', pages.at(-1)]) {
    await page.goto(server.address + next);
    await is(other, `when ${next} is loaded after that`);
    const start = await page.evaluate(() => window.themeAtStart);
    if (start !== other) report(`${next} flashes: it begins without the chosen theme`, 'set data-theme by an inline script in the <head>', `${start} instead of ${other}`);
  }
  await page.locator('#theme-toggle').click();
  await is(theme, 'after the button, once more');
}));

// One at a time: there is one clipboard.
check('code blocks show and copy the whole program, terminal blocks their commands', (defects) => visitAll(defects, pages.map((page) => ({ page })), async (page, report, { page: path }) => {
  await unfold(page);
  await compareShown(page, path, report);
  for (const button of await page.evaluate(inpage.coveredButtons)) report('something lies on a button', 'let a click reach the button', button);
  const count = await page.locator('main pre > code').count();
  for (const [index, source] of blocksOf(path).slice(0, count).entries()) {
    compareButtons(await page.evaluate(inpage.pressButtons, index), source, report);
  }
}, { permissions: ['clipboard-read', 'clipboard-write'], atOnce: 1 }));

function compareButtons(found, { shown, whole, hidden, commands }, report) {
  const begin = `\`${shown.split('\n')[0].trim()}\``;
  if (!found.boxed) {
    report('a code block is not in its box', 'div.code > pre > code', begin);
    return;
  }
  const [before, all, after] = found.states;
  const buttons = [
    ['Copy', found.copy, !commands && before.text, 'give each block one that copies what is shown, but where there is "Copy commands"'],
    ['Copy commands', found.commands, commands, 'give one to each console block in which a command is typed: without prompt, output and ^C'],
    ['Copy whole program', found.whole, hidden && whole, 'give one to each block that hides lines: it copies the file that the block includes, without its ANCHOR lines'],
  ];
  for (const [name, is, wanted, fix] of buttons) {
    if ((is !== null) !== !!wanted) report(`a code block has ${wanted ? 'no' : 'a'} button "${name}"`, fix, begin);
    else if (wanted) same(is, wanted, `"${name}" copies something else`, fix, report);
  }
  if (found.toggle !== hidden) report(`a code block has ${hidden ? 'no' : 'a'} button "Show whole program"`, 'give one to each block that hides lines', begin);
  if (!all) return;
  same(all.text, whole, '"Show whole program" shows something else', 'show all of the file that the block includes, without its ANCHOR lines', report);
  same(found.copyOfWhole, all.text, '"Copy" copies something else while the whole program is shown', 'copy what is shown', report);
  same(after.text, before.text, 'what "Show whole program" has shown stays', 'hide it again at the second click', report);
  const pressed = `${found.states.map((state) => state.pressed)}`;
  if (pressed !== 'false,true,false') report('"Show whole program" does not say whether it is pressed', 'aria-expanded="false", then "true", then "false" again', pressed);
}

/** What readers may look for, and the pages that they are to find. */
async function queries(page) {
  const wanted = new Map();
  const want = (query, path, why) => wanted.set(query, [...(wanted.get(query) ?? []), { path, why }]);
  for (const path of pages.filter((path) => path === once(path))) {
    const rust = blocksOf(path).filter((block) => block.fence.startsWith('rust'));
    const found = new Set(rust.flatMap((block) => block.whole.match(/[A-Za-z_]\w{3,}/g) ?? []));
    for (const name of found) {
      want(name, path, 'a name in its code');
      const parts = name.split(/_|(?<=[a-z])(?=[A-Z])/).filter((part) => part.length >= 4 && !found.has(part));
      for (const part of new Set(parts)) want(part, path, `a part of its ${name}`);
    }
    await page.goto(server.address + path);
    const error = 'connection closed before message completed';
    if ((await page.evaluate(inpage.content)).includes(error)) want(error, path, 'an error that it mentions');
    // The symptoms in "What goes wrong".
    for (const symptom of await page.locator('main strong > code').allTextContents()) want(symptom, path, 'an error that it explains');
  }
  return wanted;
}

check('the search finds every identifier, its parts and errors, with at most 15 kB', (defects) => visit(defects, { page: code }, async (page, report) => {
  const wanted = await queries(page);
  await page.goto(server.address + code);
  await page.evaluate(() => performance.clearResourceTimings());
  await openSearch(page);
  await page.waitForFunction(() => typeof searchTexts === 'function');
  await page.waitForTimeout(500);
  const fetched = () => page.evaluate(() => performance.getEntriesByType('resource').map(({ name, encodedBodySize }) => ({ path: name, size: encodedBodySize })));
  const opening = await fetched();
  const answers = await page.evaluate(inpage.searchFor, [...wanted.keys()]);
  const sum = (files) => files.reduce((sum, { size }) => sum + size, 0);
  const list = (files) => files.map(({ path, size }) => `${path.replace(server.address, '')} ${size}`).join(', ');
  const typing = (await fetched()).slice(opening.length);
  console.log(`the search fetches ${sum(opening)} bytes when it opens (${list(opening)}), and ${sum(typing)} when a reader types (${list(typing)}); it has answered ${wanted.size} queries`);
  if (!opening.length) report('the search fetches nothing when it opens', 'load its scripts then, not with each page');
  if (sum(opening) > 15_000) report('the search fetches more than 15000 bytes when it opens', 'index less, or load less', list(opening));

  for (const [query, places] of wanted) {
    for (const { path, why } of places) {
      if (answers[query].some((href) => target(href).page === path)) continue;
      defects.add({ page: path, width: 1280, theme: 'light' }, 'a search does not find the page', 'index the words of code, whole and in parts, and do not cut the results short', `\`${query}\`, ${why}; ${answers[query].length} results`);
    }
  }
  for (const href of new Set(Object.values(answers).flat())) {
    const { page: path, hash } = target(href);
    if (!pages.includes(path)) report('a result of the search leads nowhere', 'correct the addresses of the index', path);
    else if (hash && !readFileSync(join(site, path), 'utf8').includes(`id="${hash}"`)) report('a result of the search leads to a place that the page does not have', 'correct the addresses of the index', `${path}#${hash}`);
  }
}));

/** The first lines of what the compiler says in snippets/mistakes, whole and as it prints them. */
function compilerErrors() {
  const folder = join(repository, 'snippets/mistakes');
  const files = readdirSync(folder, { recursive: true }).filter((file) => file.endsWith('.stderr'));
  return files.map((file) => readFileSync(join(folder, file), 'utf8').split('\n')[0]);
}

check('the search finds each entry of Error Messages first, pasted alone, in a line of a log, or as the compiler prints it', (defects) => visit(defects, { page: code }, async (page, report) => {
  const path = 'reference/errors.html';
  await page.goto(server.address + path);
  const headings = await page.locator('main h3').evaluateAll((all) => all.map((heading) => ({ id: heading.id, title: heading.textContent.trim(), code: heading.innerText === heading.querySelector('code')?.innerText })));
  const wanted = new Map(headings.map(({ id, title }) => [title, id]));
  for (const { id, title, code } of headings) {
    if (code && title.includes(' ') && !title.includes('…')) wanted.set(`2026-01-31T12:00:00Z  WARN my-server-7: 192.0.2.1:40122: ${title}`, id);
  }
  // `…` stands for the types.
  const shapes = headings.map(({ id, title }) => ({ id, length: title.length, shape: new RegExp(`^${title.split('…').map((piece) => piece.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.*')}$`) }));
  for (const line of compilerErrors()) {
    const message = line.replace(/^error(\[E\d+\])?: /, '');
    const entries = shapes.filter(({ shape }) => shape.test(message)).sort((a, b) => b.length - a.length);
    if (entries.length) wanted.set(line, entries[0].id);
    else report('Error Messages has no entry for what the compiler says', 'add one to src/reference/errors.md', line);
  }
  await openSearch(page);
  const answers = await page.evaluate(inpage.searchFor, [...wanted.keys()]);
  for (const [query, id] of wanted) {
    const first = answers[query][0] && target(answers[query][0]);
    if (first?.page === path && first.hash === id) continue;
    defects.add({ page: path, width: 1280, theme: 'light' }, 'the search does not find an entry first', 'give it a heading of its own, or see to the ranking in tools/site/theme/search.js', `\`${query}\`, ${first ? `finds ${first.page}#${first.hash}` : 'finds nothing'}`);
  }
  console.log(`the search has found ${wanted.size} messages and symptoms`);
}));

// Of issue trackers: the question, the thread, and what the address of a right section has.
check('the search finds what people have asked among its first three results', (defects) => visit(defects, { page: code }, async (page, report) => {
  const questions = readFileSync(join(repository, 'tools/browser/questions.tsv'), 'utf8').trim().split('\n').map((line) => line.split('\t'));
  await openSearch(page);
  const answers = await page.evaluate(inpage.searchFor, questions.map(([question]) => question));
  for (const [question, thread, right] of questions) {
    const found = answers[question].slice(0, 3).map((address) => decodeURIComponent(address.slice(server.address.length)));
    if (!found.some((address) => new RegExp(right).test(address))) report('the search does not find the answer to a question', 'give its section other words, `<!-- also: … -->`, or correct tools/browser/questions.tsv', `"${question}" (${thread}): no /${right}/ among ${found.join(' ')}`);
  }
  console.log(`the search has answered ${questions.length} questions`);
}));

const filtered = pages.filter((page) => readFileSync(join(site, page), 'utf8').includes('class="filter"'));
check('a long list is filtered by typing, and nothing moves until then', (defects) => visitAll(defects, filtered.flatMap((page) => [{ page, width: 360 }, { page, width: 1280 }]), async (page, report) => {
  const input = page.getByLabel('Filter this page');
  const rows = page.locator('main :is(h3, tbody tr):visible');
  const before = await rows.count();
  const top = () => page.evaluate(() => document.querySelector('main h2').getBoundingClientRect().top + scrollY);
  const at = await top();
  // The last part of the page: what stands before it has to go.
  const words = (await rows.last().textContent()).toLowerCase().match(/[a-z_]{4,}/g).slice(0, 2).join(' ');
  await input.fill(words);
  const texts = await rows.allTextContents();
  if (texts.length === 0 || texts.length >= before) report('the filter does not choose', 'see site.js', `${texts.length} of ${before} parts for "${words}"`);
  if (await page.locator('main table:visible').evaluateAll((tables) => tables.some((table) => [...table.querySelectorAll('tbody tr')].every((row) => row.hidden)))) {
    report('a table without rows is shown', 'hide it with its section', words);
  }
  await input.fill('no such words');
  if (await rows.count() > 0) report('the filter shows what does not have the words', 'see site.js', `${await rows.count()} parts`);
  await input.fill('');
  if (await rows.count() !== before) report('an empty filter does not show all', 'see site.js', `${await rows.count()} of ${before}`);
  if (await top() !== at) report('the page moves', 'keep the height of .filter', `${await top()} instead of ${at}`);
}));
if (filtered.length < 2) throw new Error(`pages with <div class="filter"></div>: ${filtered}`);

check('the search opens by its button, / and s; arrows and Enter lead on; Escape leads back', (defects) => visitAll(defects, [360, 1280].map((width) => ({ page: code, width })), async (page, report) => {
  const dialog = page.getByRole('dialog', { name: 'Search' });
  const input = page.locator('input[type=search]');
  const button = page.getByRole('button', { name: 'Search', exact: true }).first();
  const focusIn = (locator) => locator.evaluate((element) => element === document.activeElement);
  const ways = {
    'its button': { from: button, open: () => page.keyboard.press('Enter') },
    '/': { from: page.locator('main a[href]:visible').first(), open: () => page.keyboard.press('/') },
    s: { from: page.locator('main a[href]:visible').first(), open: () => page.keyboard.press('s') },
  };
  for (const [way, { from, open }] of Object.entries(ways)) {
    await from.focus();
    await open();
    await dialog.waitFor({ timeout: 2000 }).catch(() => report(`${way} does not open the search`, 'a <dialog> named "Search"'));
    if (!await focusIn(input)) report('the search opens, but the focus is not in it', 'focus the input', way);
    await page.keyboard.type('s/');
    const typed = await input.inputValue();
    if (typed !== 's/') report('what is typed into the search becomes something else', 'keep the key that opens it out of the input, and leave the keys alone while a reader types', `"s/" becomes "${typed}"`);
    await page.keyboard.press('Escape');
    if (await dialog.isVisible()) {
      report('Escape does not close the search', 'an input of the type search empties itself first: close the dialog at keydown', way);
      await page.keyboard.press('Escape');
    }
    if (!await focusIn(from)) report('when the search closes, the focus is not where it was', 'a <dialog> that showModal() has opened gives it back', way);
    await input.evaluate((element) => { element.value = ''; });
  }
  await page.keyboard.press('Control+s');
  if (await dialog.isVisible()) report('Ctrl+S opens the search', 'leave the shortcuts of the browser alone');

  await openSearch(page);
  await page.keyboard.type('serve_connection');
  await page.locator('#search-results a[href]').first().waitFor();
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowDown');
  const chosen = await page.evaluate(() => document.activeElement.href);
  if (!chosen) report('the arrow keys mark no result of the search', 'focus the result');
  await page.keyboard.press('Enter');
  if (chosen) await page.waitForURL(chosen, { timeout: 2000 }).catch(() => report('Enter does not lead to the result that is marked', 'follow its link', `${page.url()} instead of ${chosen}`));
  await page.waitForLoadState();
  await arrived(page, report, 'another page');

  // The texts come when a reader has gone down to a result already.
  await page.goto(server.address + code);
  let come;
  const texts = new Promise((resolve) => { come = resolve; });
  await page.route(/search-texts/, async (route) => { await texts; await route.continue(); });
  await openSearch(page);
  // Until then the titles answer questions, too.
  await input.fill('why does my pool keep each connection');
  if (!await page.locator('#search-results a[href]').count()) report('a question finds nothing until the texts come', 'see `nearest` in search.js: it must do without texts');
  await input.fill('');
  await page.keyboard.type('connection');
  await page.locator('#search-results a[href]').first().waitFor();
  await page.keyboard.press('ArrowDown');
  come();
  await page.locator('#search-results[aria-busy=false]').waitFor();
  if (!await page.evaluate(() => document.activeElement.closest('#search-results'))) report('the focus leaves the result when the texts come', 'focus the same result in the new list');
  await page.unroute(/search-texts/);

  // On the page that is open already, nothing is loaded.
  await page.goto(server.address + code);
  await openSearch(page);
  const title = await page.locator('main h2').last().innerText();
  await input.fill(title);
  await page.locator(`#search-results a[href*="${code}#"]`).filter({ hasText: title }).first().press('Enter');
  await page.waitForFunction(() => location.hash, null, { timeout: 2000 }).catch(() => {});
  await arrived(page, report, 'the page that is open');
}));

/** Reports what keeps a reader from the place that a result of the search has led to. */
async function arrived(page, report, where) {
  if (await page.getByRole('dialog').isVisible()) report('the search stays open after Enter', 'close the dialog', `a result on ${where}`);
  const place = decodeURIComponent(new URL(page.url()).hash.slice(1));
  const seen = !place || await page.waitForFunction((id) => {
    const element = document.getElementById(id);
    const { left, top } = element.getBoundingClientRect();
    const above = document.elementFromPoint(left + 2, top + 4);
    return above && (element.contains(above) || above.contains(element));
  }, place, { timeout: 2000 }).catch(() => false);
  if (!seen) report('the result of a search is out of sight, or lies under the bar', 'scroll-margin-top on headings', `#${place}, on ${where}`);
}

check('a keyboard alone reaches everything', async (defects) => {
  await visitAll(defects, [...new Set(['index.html', code, pages.at(-1)])].flatMap((page) => [{ page, width: 360 }, { page, width: 1280 }]), async (page, report, where) => {
    await page.keyboard.press('Tab');
    const first = await page.evaluate(inpage.focused);
    if (!/skip/i.test(first?.name)) report('Tab does not lead to a link that skips the navigation first', 'a link "Skip to the text" before all else', first?.name);
    await page.keyboard.press('Enter');
    await page.keyboard.press('Tab');
    const second = await page.evaluate(inpage.focused);
    if (second && !second.main) report('the link that skips the navigation does not skip it', 'let it lead to the <main>', `the next Tab leads to ${second.name}`);

    await page.goto(server.address + where.page);
    // More steps than a page has links: whoever is not through by then is in a trap.
    for (let steps = 0; steps < 1000; steps += 1) {
      await page.keyboard.press('Tab');
      let focus = await page.evaluate(inpage.focused);
      if (!focus || focus.again === 'first') break;
      if (focus.again) {
        report('Tab is caught, and does not go on', 'leave Tab to the browser', focus.name);
        break;
      }
      // What has the focus may have to come into sight.
      if (focus.unseen) {
        await page.waitForTimeout(150);
        focus = await page.evaluate(inpage.focused, true);
      }
      if (focus.unseen) report(`what has the focus ${focus.unseen}`, 'an outline at :focus-visible; no focus for what is closed', focus.name);
    }
    for (const missed of await page.evaluate(inpage.unvisited)) report('Tab does not reach a control', 'a real <button>, <a href> or <summary>, with no tabindex of its own', missed);
  });

  await visit(defects, { page: code, width: 360 }, async (page, report) => {
    const part = page.locator('nav[aria-label="Pages"] summary').last();
    const link = page.locator('nav[aria-label="Pages"] a[href]').last();
    if (await part.isVisible()) report('the navigation is open from the start', 'fold it on a phone');
    const tabTo = async (locator) => {
      await locator.waitFor();
      for (let steps = 0; steps < 200 && !await locator.evaluate((element) => element === document.activeElement); steps += 1) await page.keyboard.press('Tab');
      await page.keyboard.press('Enter');
    };
    const href = await link.evaluate((element) => element.href);
    await menu(page).focus();
    await page.keyboard.press('Enter');
    if (await link.isVisible()) report('the navigation shows parts that the reader is not in', 'fold them');
    await tabTo(part);
    await tabTo(link);
    await page.waitForURL(href).catch(() => report('Menu, Tab and Enter do not lead to the last page of the navigation', 'let Tab go from the menu into the navigation', page.url()));
  });
});

check('without JavaScript nothing is lost but the search', async (defects) => {
  const texts = {};
  await visitAll(defects, pages.map((page) => ({ page })), async (page, _, { page: path }) => {
    texts[path] = await page.evaluate(inpage.content);
  });
  await visitAll(defects, pages.flatMap((page) => [{ page, width: 360 }, { page, width: 1280 }]), async (page, report, { page: path, width }) => {
    const part = page.locator('nav[aria-label="Pages"] summary').last();
    if (width === 360) await menu(page).click();
    if (!await page.locator('nav[aria-label="Pages"] [aria-current]').isVisible()) report('the navigation does not show the page', 'open the part that it is in');
    const open = () => part.evaluate(({ parentElement }) => parentElement.open);
    const before = await open();
    await part.click();
    if (await open() === before) report('a part of the navigation does not open', 'a <details>');
    const dead = await page.evaluate(() => [...document.querySelectorAll('button, input, select')]
      .filter((control) => control.checkVisibility({ visibilityProperty: true }) && !control.hasAttribute('popovertarget') && !control.hasAttribute('commandfor'))
      .map((control) => (control.ariaLabel ?? control.textContent).trim() || control.id));
    for (const name of new Set(dead)) report('a button does nothing', 'make it by the script that it needs, or hide it until that runs', `"${name}"`);
    await unfold(page);
    await compareShown(page, path, report);
    const [plain, rich] = [await page.evaluate(inpage.content), texts[path]];
    const at = [...rich].findIndex((character, index) => character !== plain[index]);
    if (plain !== rich) report('the text differs from that with JavaScript', 'render the text when the site is built', `"${plain.slice(at, at + 50)}" instead of "${rich.slice(at, at + 50)}"`);
  }, { javaScriptEnabled: false });
});

check('from file:// everything works', async (defects) => {
  const address = `${pathToFileURL(site)}/`;
  await visitAll(defects, pages.map((page) => ({ page, address })), async () => {});
  await visit(defects, { page: code, address }, async (page, report) => {
    await openSearch(page);
    const { connection } = await page.evaluate(inpage.searchFor, ['connection']);
    const wrong = connection.filter((href) => !pages.includes(target(href, address).page));
    if (!connection.length) report('the search finds nothing', 'load the index by a script, not by fetch');
    for (const href of wrong) report('a result of the search leads nowhere', 'link relatively', href);
    await page.goto(address + code);
    await page.locator('#theme-toggle').click();
    await page.reload();
    if (await page.evaluate(() => document.documentElement.dataset.theme) !== 'dark') report('the choice of the theme does not last', 'localStorage, read in the <head>');
    const box = page.locator('div.code').filter({ has: page.getByRole('button', { name: 'Show whole program' }) }).first();
    await box.getByRole('button', { name: 'Copy', exact: true }).click();
    await page.waitForTimeout(200);
    await page.evaluate(() => document.body.prepend(document.createElement('textarea')));
    await page.locator('textarea').focus();
    await page.keyboard.press('Control+v');
    same(await page.locator('textarea').inputValue(), await box.locator('pre > code').innerText(), '"Copy" copies something else', 'copy what is shown', report);
  });
});

check('under a sub-path, pages and the page for missing ones work', async (defects) => {
  const base = '/some/where/';
  const there = build('target/under-a-path', base);
  const { address } = await serve(there, base);
  const known = new Map();
  const leads = async (href) => {
    const url = href.split('#')[0];
    if (!known.has(url)) known.set(url, fetch(url, { method: 'HEAD', redirect: 'manual' }));
    return (await known.get(url)).status === 200;
  };
  const links = async (page, report) => {
    const own = await page.locator('a[href], link[href]').evaluateAll((all) => all.map((link) => link.href).filter((href) => href.startsWith(location.origin)));
    for (const href of own) if (!await leads(href)) report('a link leads nowhere', `link relatively, or begin with site-url (here ${base})`, new URL(href).pathname);
  };
  await visitAll(defects, files(there).map((page) => ({ page, address })), links);
  await visitAll(defects, ['no-such-page', 'no/such/deep/page.html'].flatMap((page) => screens.map((screen) => ({ page, ...screen, address, status: 404 }))), async (page, report) => {
    await links(page, report);
    const rules = await page.evaluate(() => [...document.styleSheets].reduce((sum, sheet) => sum + sheet.cssRules.length, 0));
    if (rules < 20) report('it has no styles', 'a <base href> in 404.html');
    if (!await page.locator('main a[href]').count()) report('it helps nobody: no link in its text', 'lead to the front page and to the search');
    await page.locator('#theme-toggle').click();
    if (!await page.evaluate(() => document.documentElement.dataset.theme)) report('its script does not run', 'a <base href> in 404.html');
    await openSearch(page);
    const { connection } = await page.evaluate(inpage.searchFor, ['connection']);
    if (!connection.length) report('its search finds nothing', 'load the index from the root of the site');
    for (const href of connection) if (!await leads(href)) report('a result of its search leads nowhere', `to a page under ${base}`, new URL(href).pathname);
  });
});

check('printed, nothing is cut off and no control is in the way', (defects) => visitAll(defects, [...pages, 'print.html'].map((page) => ({
  page,
  // An A4 sheet without its margins.
  width: 718,
  theme: 'dark',
})), async (page, report, { page: path }) => {
  await page.emulateMedia({ media: 'print', colorScheme: 'dark' });
  const { controls, folded, cut } = await page.evaluate(inpage.printed);
  for (const control of controls) report('it prints a control', 'display: none in @media print', control);
  for (const part of folded) report('it prints a folded part closed', '::details-content in @media print, or open it at beforeprint', part);
  for (const box of cut) report('it cuts off code', 'white-space: pre-wrap in @media print', box);
  if (await page.evaluate(inpage.brightness) < 0.9) report('it prints a dark page', 'the light colours in @media print');
  if (path !== 'print.html') {
    await compareShown(page, path, report);
    return;
  }
  const pdf = (await page.pdf({ format: 'A4' })).toString('latin1');
  const sheets = pdf.match(/\/Type\s*\/Page\b/g).length;
  console.log(`the whole book prints on ${sheets} sheets`);
  if (sheets < pages.length) report('the whole book prints on fewer sheets than it has pages', 'correct print.html', `${sheets}`);
}));
