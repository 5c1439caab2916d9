// What a format is: its name in JSON on stdin; on stdout what it is, or, where there is none, the ids of those there are.
// node formats.js, in the package's folder
'use strict';

const fs = require('fs');
const path = require('path');
const { Dex } = require(path.resolve('dist/sim/dex.js'));

const isPlayed = format => format.exists && format.effectType === 'Format';

const format = Dex.formats.get(JSON.parse(fs.readFileSync(0, 'utf8')));
let answer;
if (isPlayed(format) && !format.customRules) {
	const rules = Dex.formats.getRuleTable(format);
	answer = {
		id: format.id,
		name: format.name,
		gameType: format.gameType,
		givesTeams: !!format.team,
		maxTeamSize: rules.maxTeamSize,
		bestOf: Number(rules.valueRules.get('bestof') || 1),
	};
} else {
	answer = { known: Dex.formats.all().filter(isPlayed).map(other => other.id) };
}
process.stdout.write(JSON.stringify(answer));
