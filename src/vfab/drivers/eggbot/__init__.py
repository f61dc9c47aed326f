"""The eggbot plugin: the EggBot, an EiBotBoard that turns an egg under a pen."""
