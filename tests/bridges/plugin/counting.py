"""A plugin for maubot: counts the letters of what it is told."""

from maubot import MessageEvent, Plugin
from maubot.handlers import command


class Counting(Plugin):
    @command.new("count")
    @command.argument("text", pass_raw=True, required=False)
    async def count(self, message: MessageEvent, text: str) -> None:
        await message.reply(f"{len(text)} letters")
