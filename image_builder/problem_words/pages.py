"""`/docs/errors`: a page for each code, in the reader's language, without a script and without another host."""

from __future__ import annotations

from html import escape
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from image_builder.contract import ERROR_PAGES
from image_builder.problem_words.answers import Speak, language_of
from image_builder.problem_words.catalogue import Meaning, Words
from image_builder.problem_words.language import ENGLISH, LANGUAGES

LABELS = {
    "en": {
        "title": "Errors of Cloud Deploy",
        "about": "Every error has a code. What happened and what helps stands in the error itself; here is what its "
        "code means in general.",
        "cause": "What it means",
        "fix": "What to do",
        "all": "All codes",
        "unknown": "There is no such code here.",
        "other": "한국어",
    },
    "ko": {
        "title": "Cloud Deploy 오류",
        "about": "모든 오류에는 코드가 있습니다. 무슨 일이 있었고 무엇이 도움이 되는지는 오류 메시지에 있습니다. "
        "여기에는 코드의 일반적인 뜻이 있습니다.",
        "cause": "뜻",
        "fix": "해결 방법",
        "all": "모든 코드",
        "unknown": "그런 코드는 없습니다.",
        "other": "English",
    },
}
_STYLE = (
    ":root{color-scheme:light dark}body{font:1rem/1.6 system-ui,sans-serif;max-width:46rem;margin:2rem auto;"
    "padding:0 1rem}code{font-size:1.05em}dt{font-weight:600;margin-top:1rem}dd{margin:0}li{margin:.6rem 0}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"

Chosen = Annotated[str | None, Query(alias="lang", description="en or ko; else by Accept-Language.")]


def pages(speak: Speak) -> APIRouter:
    """The router of the pages."""
    router = APIRouter(prefix=ERROR_PAGES, include_in_schema=False, default_response_class=HTMLResponse)

    @router.get("")
    async def every(request: Request, chosen: Chosen = None) -> HTMLResponse:
        words = speak(_language(request, chosen))
        return _answer(index(words), words)

    @router.get("/{code}")
    async def one(request: Request, code: str, chosen: Chosen = None) -> HTMLResponse:
        words = speak(_language(request, chosen))
        meaning = words.meanings.get(code)
        return _answer(page(words, code, meaning), words, 200 if meaning else 404)

    return router


def _language(request: Request, chosen: str | None) -> str:
    return chosen if chosen in LANGUAGES else language_of(request.headers)


def _answer(html: str, words: Words, status: int = 200) -> HTMLResponse:
    return HTMLResponse(html, status, headers={"Content-Security-Policy": _POLICY, "Content-Language": words.language})


def page(words: Words, code: str, meaning: Meaning | None) -> str:
    """About one code."""
    label = LABELS[words.language]
    if meaning is None:
        body = f"<p>{label['unknown']}</p>"
    else:
        body = (
            f"<dl><dt>{label['cause']}</dt><dd>{escape(meaning.cause)}</dd>"
            f"<dt>{label['fix']}</dt><dd>{escape(meaning.fix)}</dd></dl>"
        )
    back = f'<p><a href="{ERROR_PAGES}?lang={words.language}">{label["all"]}</a></p>'
    return _document(words.language, code, f"<h1><code>{escape(code)}</code></h1>{body}{back}")


def index(words: Words) -> str:
    """About all."""
    label, language = LABELS[words.language], words.language
    rows = "".join(
        f'<li><a href="{ERROR_PAGES}/{code}?lang={language}"><code>{code}</code></a><br>{escape(meaning.cause)}</li>'
        for code, meaning in sorted(words.meanings.items())
    )
    return _document(language, label["title"], f"<h1>{label['title']}</h1><p>{label['about']}</p><ul>{rows}</ul>")


def _document(language: str, title: str, body: str) -> str:
    other = next(each for each in LANGUAGES if each != language)
    return (
        f'<!DOCTYPE html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{body}</main>"
        f'<footer><a href="?lang={other}" lang="{other}">{LABELS[language]["other"]}</a></footer></body></html>\n'
    )


def markdown(words: Words) -> str:
    """All codes as one page of the repository's documentation, e.g. docs/errors/README.md."""
    label = LABELS[words.language]
    name = "README.ko.md" if words.language == ENGLISH else "README.md"
    head = f"# {label['title']}\n\n[{label['other']}]({name})\n\n{label['about']}\n"
    return head + "".join(_section(code, meaning, label) for code, meaning in sorted(words.meanings.items()))


def _section(code: str, meaning: Meaning, label: dict[str, str]) -> str:
    return f"\n## {code}\n\n**{label['cause']}**: {meaning.cause}\n\n**{label['fix']}**: {meaning.fix}\n"
