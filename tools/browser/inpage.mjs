// Functions that run in the page. Each stands alone: none sees what is outside of it.

/** The number of characters of each full line of the prose; the last line of a paragraph is none. */
export function lineLengths() {
  const lengths = [];
  for (const paragraph of document.querySelectorAll('main p')) {
    if (paragraph.closest('li, blockquote, table, details, figure, nav, footer') || !paragraph.checkVisibility()) continue;
    const range = document.createRange();
    const walker = document.createTreeWalker(paragraph, NodeFilter.SHOW_TEXT);
    let line = 0;
    let right = -1;
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      for (const word of node.data.matchAll(/\s*\S+/g)) {
        const start = word.index + word[0].search(/\S/);
        range.setStart(node, start);
        range.setEnd(node, word.index + word[0].length);
        const { left, right: end } = range.getClientRects()[0] ?? {};
        if (left === undefined) continue;
        if (left < right - 1) {
          lengths.push(line);
          line = word[0].trim().length;
        } else line += line === 0 ? word[0].trim().length : word[0].length;
        right = end;
      }
    }
  }
  return lengths;
}

/** How many characters fit into the narrowest code box; not those beside another, in a list or a quotation. */
export function codeColumns() {
  let least = null;
  for (const code of document.querySelectorAll('main pre > code')) {
    const pre = code.parentElement;
    if (pre.closest('li, blockquote, .pair') || !pre.checkVisibility()) continue;
    const probe = code.appendChild(document.createElement('span'));
    probe.textContent = '0'.repeat(100);
    probe.style.cssText = 'position: absolute; visibility: hidden; white-space: pre';
    const character = probe.getBoundingClientRect().width / 100;
    probe.remove();
    const around = [pre, ...(getComputedStyle(code).display === 'inline' ? [] : [code])]
      .flatMap((element) => {
        const style = getComputedStyle(element);
        return [style.paddingLeft, style.paddingRight, style.borderLeftWidth, style.borderRightWidth];
      })
      .reduce((sum, length) => sum + parseFloat(length), 0);
    const columns = Math.floor((pre.getBoundingClientRect().width - around) / character + 0.01);
    least = Math.min(least ?? columns, columns);
  }
  return least;
}

/** Each colour of code on its background, with its contrast and a piece of text that has it. */
export function codeColours() {
  const context = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true });
  const known = new Map();
  const rgba = (colour) => {
    if (!known.has(colour)) {
      context.clearRect(0, 0, 1, 1);
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
      const [red, green, blue, alpha] = context.getImageData(0, 0, 1, 1).data;
      known.set(colour, [red, green, blue, alpha / 255]);
    }
    return known.get(colour);
  };
  const over = ([r, g, b, alpha], below) => [r, g, b].map((value, index) => value * alpha + below[index] * (1 - alpha));
  const backgrounds = new Map([[null, matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255]]]);
  const background = (element) => {
    if (!backgrounds.has(element)) backgrounds.set(element, over(rgba(getComputedStyle(element).backgroundColor), background(element.parentElement)));
    return backgrounds.get(element);
  };
  const luminance = (colour) => colour
    .map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const found = new Map();
  const walked = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || walked.has(element) || !element.closest('code')) continue;
    walked.add(element);
    const behind = background(element);
    let opacity = 1;
    for (let around = element; around; around = around.parentElement) opacity *= getComputedStyle(around).opacity;
    const [r, g, b, alpha] = rgba(getComputedStyle(element).color);
    const colour = over([r, g, b, alpha * opacity], behind);
    const [dark, light] = [luminance(colour), luminance(behind)].sort((a, b) => a - b);
    const hex = (channels) => `#${channels.map((value) => Math.round(value).toString(16).padStart(2, '0')).join('')}`;
    const key = `${hex(colour)} on ${hex(behind)}`;
    if (!found.has(key)) {
      found.set(key, { colour: key, contrast: (light + 0.05) / (dark + 0.05), text: node.data.trim().split('\n')[0].slice(0, 30), className: element.className });
    }
  }
  return [...found.values()];
}

/** What reaches over the right edge of the screen, and does not scroll in a box of its own. */
export function sidewaysScroll(width) {
  const { scrollWidth } = document.documentElement;
  for (const element of document.querySelectorAll('body *')) {
    if (element.getBoundingClientRect().right <= width + 1 || !element.checkVisibility()) continue;
    let around = element.parentElement;
    while (around && !/auto|scroll|hidden|clip/.test(getComputedStyle(around).overflowX)) around = around.parentElement;
    if (!around || around === document.body || around === document.documentElement) {
      const name = `<${element.localName}> "${element.textContent.trim().replace(/\s+/g, ' ').slice(0, 40)}"`;
      return `${name} reaches to ${Math.round(element.getBoundingClientRect().right)} px; the page is ${scrollWidth} px wide`;
    }
  }
  return scrollWidth > width ? `the page is ${scrollWidth} px wide` : null;
}

/** The code blocks whose text lies under a button. */
export function coveredCode() {
  const covered = [];
  for (const code of document.querySelectorAll('main pre > code')) {
    if (!code.checkVisibility()) continue;
    const box = code.parentElement.getBoundingClientRect();
    const range = document.createRange();
    range.selectNodeContents(code);
    const lines = [...range.getClientRects()].filter(({ left, top, width }) => width && left < box.right && top < box.bottom);
    for (const button of code.closest('pre').parentElement.querySelectorAll('button')) {
      const { left, right, top, bottom } = button.getBoundingClientRect();
      if (lines.some((line) => line.left < right && Math.min(line.right, box.right) > left && line.top < bottom && line.bottom > top)) {
        covered.push(`"${button.textContent.trim() || button.ariaLabel || button.title}" lies on "${code.innerText.trim().split('\n')[0].slice(0, 40)}"`);
        break;
      }
    }
  }
  return covered;
}

/** The buttons of code blocks that a click does not reach. */
export function coveredButtons() {
  return [...document.querySelectorAll('main div.code button')].filter((button) => {
    button.scrollIntoView({ block: 'center', behavior: 'instant' });
    const { left, top, width, height } = button.getBoundingClientRect();
    return !button.contains(document.elementFromPoint(left + width / 2, top + height / 2));
  }).map((button) => `"${button.ariaLabel ?? button.textContent.trim()}" of \`${button.closest('div.code').querySelector('code').innerText.split('\n')[0]}\``);
}

/** The code blocks that scroll sideways but that a keyboard does not reach, or does not name. */
export function unreachableCode() {
  return [...document.querySelectorAll('main pre, main pre > code')]
    .filter((box) => box.checkVisibility() && box.scrollWidth > box.clientWidth && /auto|scroll/.test(getComputedStyle(box).overflowX))
    .filter((box) => box.tabIndex < 0 || !(box.ariaLabel || box.getAttribute('aria-labelledby')))
    .map((box) => box.innerText.trim().split('\n')[0].slice(0, 40));
}

/**
 * What the buttons of the code block with this number do: what each of them copies, and what is
 * shown before, while and after the whole program is. None for a button that is not there.
 */
export async function pressButtons(number) {
  const code = document.querySelectorAll('main pre > code')[number];
  const box = code.closest('div.code');
  if (!box) return { boxed: false };
  const find = (name) => [...box.querySelectorAll('button')].find((button) => (button.ariaLabel ?? button.textContent).trim() === name);
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
  const pressed = () => toggle?.getAttribute('aria-expanded') ?? toggle?.getAttribute('aria-pressed');
  // The names may change when the buttons are clicked.
  const toggle = find('Show whole program');
  const copy = find('Copy');
  const whole = find('Copy whole program');
  const found = { boxed: true, toggle: !!toggle, shown: [code.innerText], pressed: [pressed()] };
  found.copy = await copied(copy);
  found.commands = await copied(find('Copy commands'));
  found.whole = await copied(whole);
  if (!toggle) return found;
  for (const _ of ['shows it', 'hides it again']) {
    toggle.click();
    found.shown.push(code.innerText);
    found.pressed.push(pressed());
    found.copyOfWhole ??= await copied(copy);
  }
  return found;
}

/** Types each query into the search that is open, and collects the addresses of what is found. */
export async function searchFor(queries) {
  const input = document.querySelector('input[type=search]');
  const results = document.querySelector('#search-results');
  const links = () => [...results.querySelectorAll('a[href]')].map((link) => link.href);
  const answers = {};
  let silent = 0;
  for (const query of queries) {
    answers[query] = await new Promise((found) => {
      const observer = new MutationObserver(() => links().length && end());
      const late = setTimeout(end, silent > 5 ? 20 : 800);
      function end() {
        clearTimeout(late);
        observer.disconnect();
        // A search that is broken is not waited for again and again.
        silent = links().length ? 0 : silent + 1;
        found(links());
      }
      input.value = '';
      input.dispatchEvent(new InputEvent('input', { bubbles: true }));
      observer.observe(results, { childList: true, subtree: true });
      input.value = query;
      input.dispatchEvent(new InputEvent('input', { bubbles: true }));
    });
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
  const name = `<${element.localName}> "${(element.ariaLabel ?? element.textContent).trim().replace(/\s+/g, ' ').slice(0, 40)}"`;
  const { left, right, top, bottom, width, height } = element.getBoundingClientRect();
  const style = getComputedStyle(element);
  // A shadow alone is not drawn in the high contrast of Windows.
  const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
  const outside = width * height === 0 || right <= 0 || bottom <= 0 || left >= innerWidth || top >= innerHeight;
  let unseen = null;
  if (outside) unseen = 'is focused outside of the screen';
  else if (!outlined) unseen = 'has no outline when focused';
  return { name, unseen, again, main: !!element.closest('main') };
}

/** What a keyboard should have reached and has not. */
export function unvisited() {
  return [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')]
    .filter((element) => element.checkVisibility({ visibilityProperty: true }) && !element.disabled && !element.closest('[inert]') && !element.dataset.visited)
    .map((element) => `<${element.localName}> "${(element.ariaLabel ?? element.textContent).trim().slice(0, 40)}"`);
}

/** What the styles have made of the page: two pages that look alike have the same. */
export function look() {
  return JSON.stringify(['body', 'header', 'main', 'main h1', 'main p', 'main pre'].map((selector) => {
    const element = document.querySelector(selector);
    if (!element) return null;
    const { backgroundColor, color, fontFamily, fontSize, lineHeight } = getComputedStyle(element);
    return [selector, backgroundColor, color, fontFamily, fontSize, lineHeight, Math.round(element.getBoundingClientRect().width)];
  }));
}

/** The text of the page that is not of its controls, with what is folded. */
export function content() {
  const main = document.querySelector('main').cloneNode(true);
  for (const control of main.querySelectorAll('button, script, noscript, style, nav')) control.remove();
  return main.textContent.replace(/\s+/g, ' ').trim();
}

/** What stands in the way on paper. */
export function printed() {
  const shows = (element) => element.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true }) && element.getBoundingClientRect().height > 0;
  const name = (element) => `<${element.localName}> "${(element.ariaLabel ?? element.textContent).trim().replace(/\s+/g, ' ').slice(0, 40)}"`;
  const all = (selector) => [...document.querySelectorAll(selector)];
  return {
    controls: all('button, nav, input').filter(shows).map(name),
    folded: all('main details > :last-child').filter((element) => !shows(element)).map(name),
    cut: all('main pre, main pre > code')
      .filter((box) => shows(box) && getComputedStyle(box).display !== 'inline' && box.scrollWidth > box.clientWidth)
      .map(name),
  };
}

/** How bright the page is, from 0 to 1. */
export function brightness() {
  const context = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d');
  context.fillStyle = 'white';
  context.fillRect(0, 0, 1, 1);
  for (const element of [document.documentElement, document.body]) {
    context.fillStyle = getComputedStyle(element).backgroundColor;
    context.fillRect(0, 0, 1, 1);
  }
  const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
  return (red + green + blue) / 765;
}
