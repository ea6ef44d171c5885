// Functions that run in the page. None sees what is outside of it but the helpers, which a page has from the start.

export function helpers() {
  // print.html asks for paper by itself.
  window.print = () => {};
  window.nameOf = (element) => `<${element.localName}> "${(element.ariaLabel ?? element.textContent).trim().replace(/\s+/g, ' ').slice(0, 40)}"`;
  window.firstLine = (code) => `\`${code.innerText.trim().split('\n')[0].slice(0, 40)}\``;
  window.all = (selector) => [...document.querySelectorAll(selector)];
  window.shows = (element) => element.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true });
  window.rgba = (colour) => [...colour.match(/[\d.]+/g).map(Number), 1].slice(0, 4);
  window.over = ([r, g, b, alpha], below) => [r, g, b].map((value, index) => value * alpha + below[index] * (1 - alpha));
  const canvas = () => (matchMedia('(prefers-color-scheme: dark)').matches && !matchMedia('print').matches ? [0, 0, 0] : [255, 255, 255]);
  window.background = (element) => (element ? over(rgba(getComputedStyle(element).backgroundColor), background(element.parentElement)) : canvas());
}

/** The number of characters of each full line of the prose; the last line of a paragraph is none. */
export function lineLengths() {
  const lengths = [];
  for (const paragraph of all('main p')) {
    if (paragraph.closest('li, blockquote, table, details, figure, nav, footer') || !shows(paragraph)) continue;
    const range = document.createRange();
    const walker = document.createTreeWalker(paragraph, NodeFilter.SHOW_TEXT);
    let [line, right] = [0, -1];
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      for (const word of node.data.matchAll(/\s*\S+/g)) {
        range.setStart(node, word.index + word[0].search(/\S/));
        range.setEnd(node, word.index + word[0].length);
        const [box] = range.getClientRects();
        if (!box) continue;
        if (box.left < right - 1) lengths.push(line);
        line = box.left < right - 1 || !line ? word[0].trim().length : line + word[0].length;
        right = box.right;
      }
    }
  }
  return lengths;
}

/** How many characters fit into the narrowest code box; not those beside another, in a list or a quotation. */
export function codeColumns() {
  const columns = all('main pre').filter((pre) => shows(pre) && !pre.closest('li, blockquote, .pair')).map((pre) => {
    const probe = pre.firstElementChild.appendChild(document.createElement('span'));
    probe.textContent = '0'.repeat(100);
    probe.style.cssText = 'position: absolute; visibility: hidden; white-space: pre';
    const character = probe.getBoundingClientRect().width / 100;
    probe.remove();
    const { paddingLeft, paddingRight } = getComputedStyle(pre);
    return Math.floor((pre.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight)) / character + 0.01);
  });
  return columns.length ? Math.min(...columns) : null;
}

/** Each colour of code on its background, with its contrast and a piece of text that has it. */
export function codeColours() {
  const luminance = (colour) => colour
    .map((value) => (value <= 10 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const found = new Map();
  for (const element of all('code, code *')) {
    const text = [...element.childNodes].find((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!text) continue;
    const { color, opacity } = getComputedStyle(element);
    const behind = background(element);
    const [r, g, b, alpha] = rgba(color);
    const colour = over([r, g, b, alpha * opacity], behind);
    const [dark, light] = [luminance(colour), luminance(behind)].sort((a, b) => a - b);
    found.set(`${color} on ${behind}`, { contrast: (light + 0.05) / (dark + 0.05), text: text.data.trim().split('\n')[0].slice(0, 30), className: element.className });
  }
  return [...found].map(([colour, rest]) => ({ colour, ...rest }));
}

/** What reaches over the right edge of the screen, and does not scroll in a box of its own. */
export function sidewaysScroll(width) {
  const { scrollWidth } = document.documentElement;
  for (const element of all('body *')) {
    const { right } = element.getBoundingClientRect();
    if (right <= width + 1 || !element.checkVisibility()) continue;
    let around = element.parentElement;
    while (around !== document.body && !/auto|scroll|hidden|clip/.test(getComputedStyle(around).overflowX)) around = around.parentElement;
    if (around === document.body) return `${nameOf(element)} reaches to ${Math.round(right)} px; the page is ${scrollWidth} px wide`;
  }
  return scrollWidth > width ? `the page is ${scrollWidth} px wide` : null;
}

/** The code blocks whose text lies under a button. */
export function coveredCode() {
  return all('main pre > code').filter(shows).flatMap((code) => {
    const box = code.parentElement.getBoundingClientRect();
    const range = document.createRange();
    range.selectNodeContents(code);
    const lines = [...range.getClientRects()].filter(({ left, top, width }) => width && left < box.right && top < box.bottom);
    const covers = (button) => {
      const { left, right, top, bottom } = button.getBoundingClientRect();
      return lines.some((line) => line.left < right && Math.min(line.right, box.right) > left && line.top < bottom && line.bottom > top);
    };
    const button = [...code.closest('pre').parentElement.querySelectorAll('button')].find(covers);
    return button ? [`${nameOf(button)} lies on ${firstLine(code)}`] : [];
  });
}

/** The buttons of code blocks that a click does not reach. */
export function coveredButtons() {
  return all('main div.code button').filter((button) => {
    button.scrollIntoView({ block: 'center', behavior: 'instant' });
    const { left, top, width, height } = button.getBoundingClientRect();
    return !button.contains(document.elementFromPoint(left + width / 2, top + height / 2));
  }).map((button) => `${nameOf(button)} of ${firstLine(button.closest('div.code').querySelector('code'))}`);
}

/** The code blocks that scroll sideways but that a keyboard does not reach, or does not name. */
export function unreachableCode() {
  return all('main pre')
    .filter((box) => shows(box) && box.scrollWidth > box.clientWidth && (box.tabIndex < 0 || !(box.ariaLabel || box.getAttribute('aria-labelledby'))))
    .map(firstLine);
}

/**
 * What the buttons of the code block with this number do: what each of them copies, and what is
 * shown before, while and after the whole program is. None for a button that is not there.
 */
export async function pressButtons(number) {
  const code = all('main pre > code')[number];
  const box = code.closest('div.code');
  if (!box) return { boxed: false };
  // Found at once: the names may change when the buttons are clicked.
  const [toggle, copy, commands, whole] = ['Show whole program', 'Copy', 'Copy commands', 'Copy whole program']
    .map((name) => [...box.querySelectorAll('button')].find((button) => button.ariaLabel === name));
  const copied = async (button) => {
    if (!button) return null;
    await navigator.clipboard.writeText('nothing');
    button.click();
    for (let tries = 0; tries < 100; tries += 1) {
      const text = await navigator.clipboard.readText();
      if (text !== 'nothing') return text;
      await new Promise((later) => setTimeout(later, 5));
    }
    return 'nothing';
  };
  const state = () => ({ text: code.innerText, pressed: toggle?.ariaExpanded });
  const found = { boxed: true, toggle: !!toggle, states: [state()], copy: await copied(copy), commands: await copied(commands), whole: await copied(whole) };
  if (!toggle) return found;
  for (const _ of ['shows it', 'hides it again']) {
    toggle.click();
    found.states.push(state());
    found.copyOfWhole ??= await copied(copy);
  }
  return found;
}

/** Types each query into the search that is open, and collects the addresses of all that is found. */
export async function searchFor(queries) {
  const input = document.querySelector('input[type=search]');
  const results = document.querySelector('#search-results');
  const links = () => [...results.querySelectorAll('a[href]')].map((link) => link.href);
  const type = (query) => {
    input.value = query;
    input.dispatchEvent(new InputEvent('input', { bubbles: true }));
  };
  // The texts come after the first letter: until then the titles alone answer.
  type(queries[0] ?? '');
  const deadline = performance.now() + 10_000;
  while (results.ariaBusy === 'true') {
    if (performance.now() > deadline) throw new Error('the texts of the search have not come within 10 s');
    await new Promise((later) => setTimeout(later, 20));
  }
  const answers = {};
  for (const query of queries) {
    type(query);
    answers[query] = links();
  }
  return answers;
}

/** What the focus lies on: its name, and why a reader would not see that it lies there. `still` is for asking once more. */
export function focused(still = false) {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  let again = null;
  if (element.dataset.visited && !still) again = element === window.firstFocused && element !== window.lastFocused ? 'first' : 'other';
  element.dataset.visited = 'true';
  window.firstFocused ??= element;
  window.lastFocused = element;
  const { left, right, top, bottom, width, height } = element.getBoundingClientRect();
  const style = getComputedStyle(element);
  // A shadow alone is not drawn in the high contrast of Windows.
  const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
  const outside = width * height === 0 || right <= 0 || bottom <= 0 || left >= innerWidth || top >= innerHeight;
  const unseen = outside ? 'is focused outside of the screen' : outlined ? null : 'has no outline when focused';
  return { name: nameOf(element), unseen, again, main: !!element.closest('main') };
}

/** What a keyboard should have reached and has not. */
export function unvisited() {
  return all('a[href], button, input, select, textarea, summary, [tabindex="0"]')
    .filter((element) => shows(element) && !element.disabled && !element.closest('[inert]') && !element.dataset.visited)
    .map(nameOf);
}

/** The text of the page that is not of its controls, with what is folded. */
export function content() {
  const main = document.querySelector('main').cloneNode(true);
  for (const control of main.querySelectorAll('button, label, script, noscript, style, nav')) control.remove();
  return main.textContent.replace(/\s+/g, ' ').trim();
}

/** What stands in the way on paper. */
export function printed() {
  const there = (element) => shows(element) && element.getBoundingClientRect().height > 0;
  return {
    controls: all('button, nav, input').filter(there).map(nameOf),
    folded: all('main details > :last-child').filter((element) => !there(element)).map(nameOf),
    cut: all('main pre').filter((box) => there(box) && box.scrollWidth > box.clientWidth).map(nameOf),
  };
}

/** How bright the page is, from 0 to 1. */
export function brightness() {
  return background(document.body).reduce((sum, value) => sum + value, 0) / 765;
}
