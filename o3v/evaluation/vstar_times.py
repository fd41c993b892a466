"""Times in a raw temporal response to V-STAR, with their units, in seconds."""

import re

UNITS_S = {"m": 60, "min": 60, "minute": 60, "分": 60, "分钟": 60, "h": 3600, "hr": 3600, "hour": 3600, "小时": 3600}

# A number or a clock time that is not part of a word or of a longer number, with its unit. What makes it no time of a
# video is in the group `wrong`: a minus that is no dash between two times, "frame" before it, "%" and such after it.
_TIME = re.compile(
    r"(?P<wrong>(?:^ ?|[(\[,] ?|\b(?:to|and|at|is|from|between) )[-−]|\bframes? )?"
    r"(?<![A-Za-z0-9_.:])(?P<number>[0-9]{1,15}(?::[0-9]{1,2}){0,2}(?:\.[0-9]{1,15})?)"
    r"(?: ?(?:(?P<wrong_unit>%|(?:percent|frames?|fps|ms)(?![A-Za-z0-9_]))"
    r"|(?P<unit>(?:s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?)(?![A-Za-z0-9_])|秒|分钟?|小时))"
    r"|(?![A-Za-z0-9_:]|\.[0-9]))",
    re.IGNORECASE,
)


def spoken_times(text: str) -> list[float]:
    """The times of a text: 12.5, m:ss, h:mm:ss (with decimals) and units of seconds, minutes and hours.

    Returns [] if a number is a percentage, a frame or negative, or if only some of the numbers have a unit of minutes
    or hours.

    >>> spoken_times("1 minute 30 seconds to 2.5 minutes"), spoken_times("50% to 75%"), spoken_times("5 to 6 minutes")
    ([90.0, 150.0], [], [])
    """
    times, units, end = [], [], 0
    for match in _TIME.finditer(text):
        if match["wrong"] or match["wrong_unit"]:
            return []
        unit = (match["unit"] or "").lower().removesuffix("s")
        unit_s = 1 if ":" in match["number"] else UNITS_S.get(unit, 1)
        time_s = unit_s * clock_s(match["number"])
        if times and unit_s < units[-1] and text[end : match.start()].strip() in ("", "and"):  # 1 minute 30 seconds
            times[-1] += time_s
            units[-1] = unit_s
        else:
            times.append(time_s)
            units.append(unit_s if match["unit"] or ":" in match["number"] else 0)
        end = match.end()
    return [] if 0 in units and max(units) > 1 else times


def clock_s(clock: str) -> float:
    """Seconds of `ss`, `mm:ss` or `h:mm:ss`, the last part with decimals."""
    seconds = 0.0
    for part in clock.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds
