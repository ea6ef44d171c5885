// What the pages do. All of them work without: the trees, hidden lines and colours are HTML and CSS.
"use strict";

const root = document.documentElement;
const icon = (name) => `<svg aria-hidden="true"><use href="#icon-${name}"/></svg>`;

// Light or dark. The system decides, until the reader does; back at what the system says, it
// decides again.
const system = matchMedia("(prefers-color-scheme: dark)");
const toggle = document.getElementById("theme-toggle");
const theme = () => root.dataset.theme ?? (system.matches ? "dark" : "light");
const other = () => (theme() === "dark" ? "light" : "dark");
const nameToggle = () => {
    toggle.ariaLabel = toggle.title = `Switch to the ${other()} theme`;
};
toggle.addEventListener("click", () => {
    const chosen = other();
    if (chosen === (system.matches ? "dark" : "light")) delete root.dataset.theme;
    else root.dataset.theme = chosen;
    try {
        if (root.dataset.theme) localStorage.setItem("theme", chosen);
        else localStorage.removeItem("theme");
    } catch { /* The choice holds for this page. */ }
    nameToggle();
});
system.addEventListener("change", nameToggle);
nameToggle();

// The buttons of the code blocks.
const programs = JSON.parse(document.getElementById("programs")?.textContent ?? "[]");
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

// The whole program in place of its part: the part keeps its colours, the rest is pale.
const whole = (program, part, shown) => {
    const lines = program.split("\n").map((line) => `<span class="rest">${escaped(line)}</span>`);
    const coloured = part.split("\n").values();
    for (const range of shown.split(" ")) {
        const [from, to] = range.split("-").map(Number);
        for (let at = from; at <= to; at++) lines[at] = coloured.next().value;
    }
    return lines.join("\n") + "\n";
};
const said = document.body.appendChild(document.createElement("div"));
said.className = "unseen";
said.setAttribute("role", "status");
const copy = async (button, content) => {
    try {
        await navigator.clipboard.writeText(content);
    } catch {
        // Browsers offer no clipboard to pages from plain http. The old way works there.
        const area = document.body.appendChild(document.createElement("textarea"));
        area.value = content;
        area.select();
        document.execCommand("copy");
        area.remove();
        button.focus();
    }
    const before = button.innerHTML;
    if (button.dataset.done) return;
    button.dataset.done = "yes";
    button.innerHTML = icon("done");
    said.textContent = "Copied";
    setTimeout(() => {
        button.innerHTML = before;
        delete button.dataset.done;
        said.textContent = "";
    }, 1500);
};
const addButton = (buttons, name, picture, action) => {
    const button = buttons.appendChild(document.createElement("button"));
    button.type = "button";
    button.ariaLabel = button.title = name;
    button.innerHTML = icon(picture);
    button.addEventListener("click", () => action(button));
    return button;
};
for (const block of document.querySelectorAll(".code")) {
    const code = block.querySelector("code");
    const buttons = document.createElement("div");
    buttons.className = "buttons";
    const commands = [...block.querySelectorAll(".command")].map((command) => `${command.textContent}\n`);
    if (commands.length > 0) addButton(buttons, "Copy commands", "copy", (button) => copy(button, commands.join("")));
    else addButton(buttons, "Copy", "copy", (button) => copy(button, code.textContent));
    const program = programs[block.dataset.program];
    if (program !== undefined) {
        const part = code.innerHTML;
        const eye = addButton(buttons, "Show whole program", "eye", () => {
            const open = eye.ariaExpanded === "false";
            eye.ariaExpanded = String(open);
            code.innerHTML = open ? whole(program, part, block.dataset.shown) : part;
        });
        eye.ariaExpanded = "false";
        addButton(buttons, "Copy whole program", "program", (button) => copy(button, `${program}\n`));
    }
    block.prepend(buttons);
}

// A box that does not scroll is no stop for the keyboard.
const sized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
        if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
        else target.removeAttribute("tabindex");
    }
});
document.querySelectorAll(".code pre, .table").forEach((box) => sized.observe(box));

// Where the reader is: marked in "On this page", and named in the bar on a phone.
const outline = document.getElementById("outline");
if (outline) {
    const where = document.getElementById("where");
    const page = where.textContent;
    const links = [...outline.querySelectorAll("a")];
    const sections = links.map((link) => document.getElementById(decodeURIComponent(link.hash.slice(1))));
    let current;
    const mark = () => {
        const atEnd = innerHeight + scrollY >= document.body.scrollHeight - 2 && scrollY > 0;
        let index = sections.findLastIndex((section) => section?.getBoundingClientRect().top < 120);
        if (atEnd) index = links.length - 1;
        if (index === current) return;
        links[current]?.removeAttribute("aria-current");
        links[index]?.setAttribute("aria-current", "location");
        where.textContent = index > 0 ? links[index].textContent : page;
        current = index;
    };
    addEventListener("scroll", mark, { passive: true });
    // Measuring makes the browser lay out the page: not before it has shown it.
    setTimeout(mark);
    outline.addEventListener("click", (event) => {
        if (event.target.closest("a") && outline.matches(":popover-open")) outline.hidePopover();
    });
}
setTimeout(() => document.querySelector("#pages [aria-current]")?.scrollIntoView({ block: "nearest" }));

// A long list is filtered by typing, where its page has a place for it. What is shown or hidden together: a row of
// a table, or a heading with all up to the next one.
const place = document.querySelector(".filter");
if (place) {
    place.innerHTML = '<label>Filter this page <input type="text" autocomplete="off" spellcheck="false"></label>';
    const sections = [];
    let section, entry;
    for (const element of place.parentElement.children) {
        if (element.matches("h2")) {
            entry = undefined;
            sections.push(section = { all: [element], parts: [] });
        } else if (section) {
            section.all.push(element);
            if (element.matches("h3")) section.parts.push(entry = []);
            if (entry) entry.push(element);
            else section.parts.push(...[...element.querySelectorAll("tbody tr")].map((row) => [row]));
        }
    }
    for (const section of sections) {
        section.parts = section.parts.map((elements) => ({
            elements,
            text: elements.map((element) => element.textContent).join(" ").toLowerCase(),
        }));
    }
    place.querySelector("input").addEventListener("input", (event) => {
        const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
        let count = 0;
        for (const { all, parts } of sections) {
            const found = parts.filter(({ text }) => words.every((word) => text.includes(word)));
            count += found.length;
            // A section without a list is shown while nothing is filtered.
            for (const element of all) element.hidden = words.length > 0 && found.length === 0;
            for (const part of parts) {
                for (const element of part.elements) element.hidden = words.length > 0 && !found.includes(part);
            }
        }
        said.textContent = words.length > 0 ? `${count} found` : "";
    });
}

// Search: its script and its index are loaded when it is first opened.
const search = document.getElementById("search");
const loadScript = (source) => {
    const script = document.createElement("script");
    script.src = source;
    script.async = false;
    document.head.append(script);
};
const openSearch = () => {
    if (!search.open) search.showModal();
    const scripts = search.dataset.scripts?.split(" ") ?? [];
    delete search.dataset.scripts;
    scripts.forEach(loadScript);
    document.getElementById("search-input").select();
};
document.getElementById("search-open").addEventListener("click", openSearch);
addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    if ((event.key === "/" || event.key === "s") && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        openSearch();
    }
});

if (document.body.classList.contains("print")) addEventListener("load", () => setTimeout(print, 100));
