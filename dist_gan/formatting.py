"""Numbers as text for people."""


def size(count: float) -> str:
    """Bytes: 450 kB, 1.2 MB, 3.4 GB."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 999.5 or unit == "TB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if count >= 99.5 or unit == "bytes" else f"{count:.2g} {unit}"


def plural(count: int, thing: str) -> str:
    """1 process, 2 processes, 3 mistakes."""
    return f"{count:,} {thing}{'' if count == 1 else 'es' if thing.endswith('s') else 's'}"


def duration(seconds: float) -> str:
    """45 s, 12 min, 3 h 20 min, 2 d 4 h; never negative."""
    seconds = max(0.0, seconds)
    minutes, hours, days = round(seconds / 60), round(seconds / 3600), 86400
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{minutes} min"
    if seconds < days:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"
