// Reads a JSON list of teams (export or packed text) on stdin, writes the list of the validator's reasons for each.
// node validate.js FORMAT, in the package's folder
'use strict';

const fs = require('fs');
const { Teams } = require('./dist/sim/teams.js');
const { TeamValidator } = require('./dist/sim/team-validator.js');

const validator = TeamValidator.get(process.argv[2]);
const reasons = JSON.parse(fs.readFileSync(0, 'utf8')).map(text => {
	const team = Teams.import(text);
	return team ? validator.validateTeam(team) || [] : ['This is not a team.'];
});
process.stdout.write(JSON.stringify(reasons));
