// Merged over the server's example configuration: this machine only, no limits, nothing kept on disk.
'use strict';

exports.bindaddress = '127.0.0.1';
exports.port = 8000; // replaced on the command line
exports.subprocesses = 0;
exports.nothrottle = true;
exports.noguestsecurity = true;
exports.noipchecks = true;
exports.nofswriting = true; // several servers share one installation; also no call to the public login server
exports.repl = false;
exports.watchconfig = false;
exports.backdoor = false;
exports.autolockdown = false;
exports.loguserstats = 0;
